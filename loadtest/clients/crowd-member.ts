import type { Sequence } from "../checks/sequence.ts";
import type { Account } from "./crowd-witness.ts";

/** One client of a crowd. */
export interface Member {
  readonly account: Account;
  /** Those that it is to follow. */
  readonly channels: readonly string[];
  /** By channel; one that it does not follow yet has none. */
  readonly sequences: ReadonlyMap<string, Sequence>;
  readonly connected: boolean;
  start(): void;
  /** @returns `ok`, or the code of the failure. */
  call(event: string): Promise<string>;
  leave(): void;
}
