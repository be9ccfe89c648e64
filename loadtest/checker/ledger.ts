/** What everybody was told of one channel, and the judgement over it. Pure: no clock, no network. */
import { maxReplayPublications } from "../../shared/protocol/limits.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { Chain, type ChainItem } from "./chain.ts";
import { FollowerLedger, type Signal, text } from "./follower-ledger.ts";
import type { Violation, ViolationKind } from "./violations.ts";

/** Where the channel stands when nobody publishes any more, and what it keeps. */
export interface Truth {
  readonly position: Position;
  readonly publications: readonly ChainItem[];
  /** Publications that are kept: further behind than this nobody can be bridged. */
  readonly historySize: number;
  /** Each has at most one publication under way of which nobody has heard. */
  readonly publishers: number;
  /** Something was done that may lose acknowledged publications. */
  readonly lossDeclared: boolean;
}

export interface Verdict {
  readonly channel: string;
  readonly acknowledged: number;
  /** Acknowledged, and not in the history at the end: what a declared loss has cost. */
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

  /** @param now ms, for the traces of followers. */
  constructor(channel: string, now: () => number = () => 0) {
    this.channel = channel;
    this.#now = now;
  }

  /** A client that is going to follow the channel. */
  follower(name: string): FollowerLedger {
    const follower = new FollowerLedger({ name, chain: this.#chain, now: this.#now });
    this.followers.push(follower);
    return follower;
  }

  /** A publisher got 200. One that was told so twice (`duplicate`) says it once. */
  acknowledged(position: Position, item: string): void {
    this.#acknowledged.push({ position, item });
    this.#see(position.epoch, { offset: position.offset, item });
  }

  /** Who does not stand at the position, yet. */
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

  /** A signal is needed where history leads nowhere from where the client stood, or further than it may. */
  #isNeeded({ from, position, newest }: Signal, { position: end, historySize, publishers }: Truth): boolean {
    const missed = (to: Position): number | undefined => {
      const way = this.#chain.distance(from, to);
      return way.kind === "reached" ? way.publications : undefined;
    };
    const missedThen = missed(position);
    // Whoever stands in what is left at the end has lost nothing, whatever the server took for the present.
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

  #see(epoch: string, link: Omit<ChainItem, "prev"> & { prev?: number }): void {
    const contradiction = this.#chain.add(epoch, link);
    if (contradiction) this.#forked.push(contradiction);
  }
}
