/** Messages between a scenario's process and the processes with its clients. */
import type { MemberKind, TallyJson } from "../checks/tally.ts";

/** The data of each publication that a crowd receives. */
export interface Tick {
  /** Unix ms, when it was published. */
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

export type CrowdOrder =
  | {
      readonly order: "join";
      readonly members: readonly MemberSpec[];
      readonly perSecond: number;
      readonly jwtSecret: string;
    }
  /** Starts a phase: what happens from now on counts for it. */
  | { readonly order: "phase"; readonly phase: string }
  /** Calls per second of all members of the process together; 0 stops them. */
  | { readonly order: "call"; readonly callsPerSecond: number }
  /** Asks for a report once every member has reached the end of its channels, or the time is up. */
  | { readonly order: "report"; readonly ends: Readonly<Record<string, number>>; readonly withinMs: number }
  | { readonly order: "leave" };

export type CrowdMessage =
  | {
      readonly kind: "progress";
      readonly connected: number;
      readonly following: number;
      readonly callsUnderWay: number;
    }
  | { readonly kind: "report"; readonly tally: TallyJson };
