/** One run of the checker: clients and publishers on some channels, and the verdict at the end. */
import { setTimeout as pause } from "node:timers/promises";
import { CheckerClient } from "./client.ts";
import type { FollowerLedger } from "./follower-ledger.ts";
import { ChannelLedger, type Verdict } from "./ledger.ts";
import { type PrivateApiAddress, readHistory } from "./private-api.ts";
import { Publisher } from "./publisher.ts";
import type { Violation } from "./violations.ts";

export interface CheckerOptions {
  readonly gatewayUrls: readonly string[];
  readonly api: PrivateApiAddress;
  /** A token that grants all channels; every client uses it. */
  readonly token: string;
  readonly channels: readonly string[];
  readonly clients: number;
  /** Per channel. */
  readonly publishers: number;
  readonly reconnectMs: number;
  readonly random: () => number;
}

/** For the last publications to be accepted, unless the caller says another time. */
const finalPublishMs = 30_000;
const checkEveryMs = 20;
const rereadHistoryEveryMs = 1_000;

export class CheckerRun {
  readonly clients: readonly CheckerClient[];
  readonly publishers: ReadonlyMap<string, readonly Publisher[]>;
  readonly #ledgers: readonly ChannelLedger[];
  readonly #options: CheckerOptions;
  readonly #giveUp = new AbortController();

  constructor(options: CheckerOptions) {
    this.#options = options;
    const startedAt = performance.now();
    this.#ledgers = options.channels.map((channel) => new ChannelLedger(channel, () => performance.now() - startedAt));
    this.clients = Array.from({ length: options.clients }, (_, n) => this.#client(`client-${n + 1}`));
    this.publishers = new Map(this.#ledgers.map((ledger) => [ledger.channel, this.#publishersOf(ledger)]));
  }

  start(): void {
    for (const client of this.clients) client.start();
  }

  /** Disconnects the clients and stops retries. */
  stop(): void {
    this.#giveUp.abort();
    for (const client of this.clients) client.stop();
  }

  /** Resolves with true once every client follows every channel, with false where the time is up. */
  async allFollow(withinMs: number): Promise<boolean> {
    return this.#until(() => this.followers().every(({ live }) => live), withinMs);
  }

  followers(): FollowerLedger[] {
    return this.#ledgers.flatMap((ledger) => ledger.followers);
  }

  /** The followers of these violations. */
  affected(violations: readonly Violation[]): { channel: string; follower: FollowerLedger }[] {
    return this.#ledgers.flatMap(({ channel, followers }) =>
      followers
        .filter(({ name }) => violations.some((found) => found.channel === channel && found.follower === name))
        .map((follower) => ({ channel, follower })),
    );
  }

  /**
   * Publishes a last item on each channel, waits until every client has it, and judges.
   *
   * @param options.historyWithinMs for so long a read of history that fails is repeated: others may still break the fleet
   * @throws where the last items are not accepted, or history cannot be read
   */
  async finish(options: {
    withinMs: number;
    publishWithinMs?: number;
    historyWithinMs?: number;
    historySize: (channel: string) => number;
    lossDeclared: boolean;
  }): Promise<Verdict[]> {
    const { withinMs, publishWithinMs = finalPublishMs, historyWithinMs = 0, historySize, lossDeclared } = options;
    const { publishers } = this.#options;
    for (const client of this.clients) client.followAll();
    return Promise.all(
      this.#ledgers.map(async (ledger) => {
        const { channel } = ledger;
        const last = await this.publishers.get(channel)?.[0]?.publish(publishWithinMs);
        if (!last) throw new Error(`the last publication on ${channel} was not accepted`);
        const deadline = performance.now() + withinMs;
        while (true) {
          // A publication that its publisher gave up may still arrive: the final position is read again.
          const history = await this.#history(channel, historyWithinMs);
          const allAreThere = await this.#until(
            () => ledger.notAt(history.position).length === 0,
            rereadHistoryEveryMs,
          );
          if (allAreThere || performance.now() > deadline) {
            return ledger.judge({ ...history, historySize: historySize(channel), publishers, lossDeclared });
          }
        }
      }),
    );
  }

  #client(name: string): CheckerClient {
    const { gatewayUrls: urls, token, reconnectMs, random } = this.#options;
    const ledgers = new Map(this.#ledgers.map((ledger) => [ledger.channel, ledger.follower(name)]));
    return new CheckerClient({ urls, token, ledgers, reconnectMs, random });
  }

  #publishersOf(ledger: ChannelLedger): Publisher[] {
    const { publishers, api } = this.#options;
    return Array.from({ length: publishers }, (_, n) => {
      return new Publisher({ ledger, api, name: `${ledger.channel}-p${n + 1}`, signal: this.#giveUp.signal });
    });
  }

  /** @throws where it cannot be read within the time */
  async #history(channel: string, withinMs: number): ReturnType<typeof readHistory> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      try {
        return await readHistory(this.#options.api, channel);
      } catch (error) {
        if (performance.now() >= deadline || this.#giveUp.signal.aborted) throw error;
        await pause(rereadHistoryEveryMs);
      }
    }
  }

  async #until(condition: () => boolean, withinMs: number): Promise<boolean> {
    const deadline = performance.now() + withinMs;
    while (!condition()) {
      if (performance.now() > deadline || this.#giveUp.signal.aborted) return false;
      await pause(checkEveryMs);
    }
    return true;
  }
}
