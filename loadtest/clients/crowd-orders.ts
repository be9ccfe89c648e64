/** What the process of a scenario and those with its clients tell each other. */
import type { MemberKind, TallyJson } from "../checks/tally.ts";

/** What publishers of a crowd put into their publications. */
export interface Tick {
  /** Unix ms. */
  readonly at: number;
  readonly phase: string;
}

export const tickEvent = "load.tick";

export interface MemberSpec {
  readonly kind: MemberKind;
  readonly user: string;
  readonly url: string;
  readonly channels: readonly string[];
}

export type Order =
  | {
      readonly order: "join";
      readonly members: readonly MemberSpec[];
      readonly perSecond: number;
      readonly jwtSecret: string;
    }
  /** What happens from now on belongs to this phase. */
  | { readonly order: "phase"; readonly phase: string }
  /** `callsPerSecond` of all members of the process together; 0 ends them, and is answered once none is under way. */
  | { readonly order: "call"; readonly callsPerSecond: number }
  /** Waits until every member has reached the end of its channels, and reports. */
  | { readonly order: "report"; readonly ends: Readonly<Record<string, number>>; readonly withinMs: number }
  | { readonly order: "leave" };

export type Word =
  | {
      readonly word: "progress";
      readonly connected: number;
      readonly following: number;
      readonly callsUnderWay: number;
    }
  | { readonly word: "report"; readonly tally: TallyJson };
