/** Counts what the members of one process see, by phase and kind of client. */
import type { Sequence } from "../checks/sequence.ts";
import { type MemberKind, Tally } from "../checks/tally.ts";
import type { Tick } from "./crowd-messages.ts";

/** The state of one member that figures depend on. */
export interface MemberRecord {
  readonly kind: MemberKind;
  /** The node of its connection; undefined before the first. */
  node: string | undefined;
  /** Unix ms since when it has no connection. */
  lostAt: number | undefined;
  /** The phase in which it last lost a connection: in it, its figures are not those of a bystander. */
  disturbedIn: string | undefined;
}

export class Witness {
  readonly tally = new Tally();
  phase = "joining";

  /** One publication, live or recovered. */
  received({ kind, disturbedIn }: MemberRecord, { at, phase }: Tick): void {
    const group = disturbedIn === phase ? "disturbed" : "calm";
    this.tally.duration(`latency/${phase}/${kind}/${group}`, Date.now() - at);
  }

  /** @param welcome.moved the next connection opened before the previous one closed. */
  welcomed(record: MemberRecord, welcome: { node: string; resumed: boolean; moved: boolean }): void {
    const { kind, lostAt } = record;
    this.tally.welcome(Date.now());
    this.tally.count(`welcomed/${this.phase}/${kind}/${welcome.resumed ? "resumed" : "new"}`);
    if (welcome.moved) this.tally.count(`moved/${this.phase}/${kind}/${record.node}`);
    if (lostAt !== undefined) this.tally.duration(`away/${this.phase}/${kind}`, Date.now() - lostAt);
    record.lostAt = undefined;
    record.node = welcome.node;
  }

  lost(record: MemberRecord): void {
    if (record.lostAt !== undefined) return;
    record.lostAt = Date.now();
    record.disturbedIn = this.phase;
    this.tally.count(`lost/${this.phase}/${record.kind}/${record.node}`);
  }

  refused({ kind }: MemberRecord, code: string): void {
    this.tally.count(`refused/${this.phase}/${kind}/${code}`);
  }

  /** The final state of one channel of a member. @param end the channel's last offset. */
  ended({ kind }: MemberRecord, sequence: Sequence | undefined, end: number): void {
    if (!sequence) return this.tally.count(`unfollowed/${kind}`);
    const { received, lost, doubled, reordered, signalled, reached } = sequence;
    this.tally.count(`received/${kind}`, received);
    this.tally.count(`missed/${kind}`, lost + Math.max(0, end - reached));
    this.tally.count(`doubled/${kind}`, doubled);
    this.tally.count(`reordered/${kind}`, reordered);
    this.tally.count(`signalled/${kind}`, signalled);
  }

  /** @param code `ok`, or the code of the failure. */
  called({ kind }: MemberRecord, code: string, tookMs: number): void {
    this.tally.count(`called/${this.phase}/${kind}/${code}`);
    if (code === "ok") this.tally.duration(`call/${this.phase}/${kind}`, tookMs);
  }
}
