/** The ledger of one channel over all clients and publishers, and the verdict on it. Pure: no clock, no network. */
import { maxReplayPublications } from "../../shared/protocol/limits.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { Chain, type ChainItem } from "./chain.ts";
import { FollowerLedger, type Signal, text } from "./follower-ledger.ts";
import type { Violation, ViolationKind } from "./violations.ts";

/** The channel's final position and history, once publishing has ended. */
export interface Truth {
  readonly position: Position;
  readonly publications: readonly ChainItem[];
  /** Publications that history keeps: clients further behind cannot recover. */
  readonly historySize: number;
  /** Each may have one publication under way that no client and no answer has shown. */
  readonly publishers: number;
  /** A fault occurred that may lose acknowledged publications. */
  readonly lossDeclared: boolean;
}

export interface Verdict {
  readonly channel: string;
  readonly acknowledged: number;
  /** Acknowledged publications that the final history lacks: the cost of a declared loss. */
  readonly gone: number;
  readonly deliveries: number;
  readonly signals: number;
  readonly violations: readonly Violation[];
}

export class ChannelLedger {
  readonly channel: string;
  readonly followers: FollowerLedger[] = [];
  readonly #chain = new Chain();
  readonly #acknowledged: { position: Position; item: string }[] = [];
  readonly #forked: string[] = [];
  readonly #now: () => number;

  /** @param now ms, for the followers' traces */
  constructor(channel: string, now: () => number = () => 0) {
    this.channel = channel;
    this.#now = now;
  }

  /** Adds a client that will follow the channel. */
  follower(name: string): FollowerLedger {
    const follower = new FollowerLedger({ name, chain: this.#chain, now: this.#now });
    this.followers.push(follower);
    return follower;
  }

  /** A publisher got 200. Call it once for each item, even where a repeat was answered `duplicate`. */
  acknowledged(position: Position, item: string): void {
    this.#acknowledged.push({ position, item });
    this.#see(position.epoch, { offset: position.offset, item });
  }

  /** Followers that have not reached the position. */
  notAt({ epoch, offset }: Position): FollowerLedger[] {
    return this.followers.filter(
      ({ position, live }) => !live || position?.epoch !== epoch || position.offset !== offset,
    );
  }

  judge(truth: Truth): Verdict {
    const { channel, followers } = this;
    for (const publication of truth.publications) this.#see(truth.position.epoch, publication);
    const violations: Violation[] = this.#forked.map((detail) => ({ kind: "forked", channel, detail }));
    const gone = this.#gone(truth);
    if (!truth.lossDeclared) {
      for (const { position, item } of gone) {
        violations.push({ kind: "vanished", channel, detail: `${item}, acknowledged at ${text(position)}` });
      }
    }
    for (const follower of followers) {
      const find = (kind: ViolationKind, detail: string): void => {
        violations.push({ kind, channel, follower: follower.name, detail });
      };
      for (const { kind, detail } of follower.findings) find(kind, detail);
      for (const { from, to } of follower.gaps) {
        const hadWay = this.#chain.distance(from, to).kind === "reached";
        find(hadWay ? "lost" : "unsignalled", `from ${text(from)} to ${text(to)}`);
      }
      for (const signal of follower.signals) {
        if (this.#isNeeded(signal, truth)) continue;
        const { from, position, reason, repeated } = signal;
        find(repeated ? "doubledSignal" : "falseSignal", `${reason}: from ${text(from)} to ${text(position)}`);
      }
    }
    for (const { name, position, live } of this.notAt(truth.position)) {
      const where = `${text(position)}${live ? "" : ", not subscribed"}, the channel at ${text(truth.position)}`;
      violations.push({ kind: "behind", channel, follower: name, detail: `at ${where}` });
    }
    const sum = (count: (follower: FollowerLedger) => number): number =>
      followers.reduce((total, follower) => total + count(follower), 0);
    return {
      channel,
      acknowledged: this.#acknowledged.length,
      gone: gone.length,
      deliveries: sum(({ deliveries }) => deliveries),
      signals: sum(({ signals }) => signals.length),
      violations,
    };
  }

  /** A signal is right where history does not lead on from the client's position, or only over too many publications. */
  #isNeeded({ from, position, newest }: Signal, { position: end, historySize, publishers }: Truth): boolean {
    const missed = (to: Position): number | undefined => {
      const way = this.#chain.distance(from, to);
      return way.kind === "reached" ? way.publications : undefined;
    };
    const missedThen = missed(position);
    // A client whose position is still in the final history has lost nothing, whatever the gateway read then.
    if (missedThen === undefined) return missed(end) === undefined;
    return Math.max(missedThen, missed(newest) ?? 0) + publishers > Math.min(historySize, maxReplayPublications);
  }

  #gone({ position }: Truth): { position: Position; item: string }[] {
    const { offsets, whole } = this.#chain.offsets(position);
    const oldest = whole ? 0 : Math.min(...offsets);
    return this.#acknowledged.filter(({ position: { epoch, offset } }) => {
      if (epoch !== position.epoch) return true;
      return offset >= oldest && !offsets.has(offset);
    });
  }

  #see(epoch: string, item: Omit<ChainItem, "prev"> & { prev?: number }): void {
    const contradiction = this.#chain.add(epoch, item);
    if (contradiction) this.#forked.push(contradiction);
  }
}
