/** Publishes numbered items on one channel, one after the other; repeats each until it is acknowledged. */
import { setTimeout as pause } from "node:timers/promises";
import type { Position } from "../../shared/protocol/wire.ts";
import type { ChannelLedger } from "./ledger.ts";
import { type PrivateApiAddress, publish, publishAtOnce } from "./private-api.ts";

const retryMs = 100;

export class Publisher {
  readonly #ledger: ChannelLedger;
  readonly #api: PrivateApiAddress;
  readonly #name: string;
  readonly #signal: AbortSignal;
  #count = 0;
  /** Answers that were not 200. */
  failures = 0;

  /** @param options.signal stops retries */
  constructor(options: { ledger: ChannelLedger; api: PrivateApiAddress; name: string; signal: AbortSignal }) {
    this.#ledger = options.ledger;
    this.#api = options.api;
    this.#name = options.name;
    this.#signal = options.signal;
  }

  /**
   * Publishes the next item under an id, so that a repeat does not double it.
   *
   * @returns undefined where it gave up: the item may be published all the same
   */
  async publish(withinMs: number): Promise<Position | undefined> {
    const item = `${this.#name}-${++this.#count}`;
    const deadline = performance.now() + withinMs;
    do {
      const position = await publish(this.#api, this.#ledger.channel, { item, key: this.#name });
      if (position) {
        this.#ledger.acknowledged({ epoch: position.epoch, offset: position.offset }, item);
        return position;
      }
      this.failures++;
      await pause(retryMs, undefined, { signal: this.#signal }).catch(() => undefined);
    } while (performance.now() < deadline && !this.#signal.aborted);
    return undefined;
  }

  /** Publishes the next items in one call, and those that are refused again, in their order: they may stand behind later ones. */
  async publishAtOnce(count: number, withinMs: number): Promise<void> {
    let left = Array.from({ length: count }, () => ({ item: `${this.#name}-${++this.#count}`, key: this.#name }));
    const deadline = performance.now() + withinMs;
    while (left.length > 0 && performance.now() < deadline && !this.#signal.aborted) {
      const positions = await publishAtOnce(this.#api, this.#ledger.channel, left);
      for (const [at, position] of positions.entries()) {
        if (position) this.#ledger.acknowledged(position, left[at]?.item ?? "");
      }
      left = left.filter((_, at) => !positions[at]);
      if (left.length === 0) return;
      this.failures++;
      await pause(retryMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }
}
