/** What the members of one process saw, by phase and kind. */
import type { Sequence } from "../checks/sequence.ts";
import { type MemberKind, Tally } from "../checks/tally.ts";
import type { Tick } from "./crowd-orders.ts";

/** A member's own account, as far as it concerns figures. */
export interface Account {
  readonly kind: MemberKind;
  /** Of its node; undefined while it has none. */
  node: string | undefined;
  /** Unix ms: without a connection since then. */
  lostAt: number | undefined;
  /** Lost a connection in the phase of this name: what it gets in it is not a bystander's. */
  disturbedIn: string | undefined;
}

export class Witness {
  readonly tally = new Tally();
  phase = "joining";

  /** One publication, live or recovered. */
  took({ kind, disturbedIn }: Account, { at, phase }: Tick): void {
    const concern = disturbedIn === phase ? "disturbed" : "calm";
    this.tally.duration(`latency/${phase}/${kind}/${concern}`, Date.now() - at);
  }

  /** @param moved it went from one connection to the next without being without one. */
  welcomed(account: Account, welcome: { node: string; resumed: boolean; moved: boolean }): void {
    const { kind, lostAt } = account;
    this.tally.welcome(Date.now());
    this.tally.count(`welcomed/${this.phase}/${kind}/${welcome.resumed ? "resumed" : "new"}`);
    if (welcome.moved) this.tally.count(`moved/${this.phase}/${kind}/${account.node}`);
    if (lostAt !== undefined) this.tally.duration(`away/${this.phase}/${kind}`, Date.now() - lostAt);
    account.lostAt = undefined;
    account.node = welcome.node;
  }

  lost(account: Account): void {
    if (account.lostAt !== undefined) return;
    account.lostAt = Date.now();
    account.disturbedIn = this.phase;
    this.tally.count(`lost/${this.phase}/${account.kind}/${account.node}`);
  }

  refused({ kind }: Account, code: string): void {
    this.tally.count(`refused/${this.phase}/${kind}/${code}`);
  }

  /** What came of a channel in the end. @param end its last offset. */
  judged({ kind }: Account, sequence: Sequence | undefined, end: number): void {
    if (!sequence) return this.tally.count(`unfollowed/${kind}`);
    const { received, lost, doubled, reordered, signalled, reached } = sequence;
    this.tally.count(`received/${kind}`, received);
    this.tally.count(`missed/${kind}`, lost + Math.max(0, end - reached));
    this.tally.count(`doubled/${kind}`, doubled);
    this.tally.count(`reordered/${kind}`, reordered);
    this.tally.count(`signalled/${kind}`, signalled);
  }

  /** A call's answer: `ok`, or the code of its failure. */
  called({ kind }: Account, code: string, tookMs: number): void {
    this.tally.count(`called/${this.phase}/${kind}/${code}`);
    if (code === "ok") this.tally.duration(`call/${this.phase}/${kind}`, tookMs);
  }
}
