import type { Sequence } from "../checks/sequence.ts";
import type { MemberRecord } from "./crowd-witness.ts";

/** One client of a crowd. */
export interface Member {
  readonly record: MemberRecord;
  /** The channels that it is to follow. */
  readonly channels: readonly string[];
  /** By channel; has no entry before the first subscribe succeeded. */
  readonly sequences: ReadonlyMap<string, Sequence>;
  readonly connected: boolean;
  start(): void;
  /** @returns `ok`, or the code of the failure. */
  call(event: string): Promise<string>;
  leave(): void;
}
