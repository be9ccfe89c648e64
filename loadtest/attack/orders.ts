/** Messages between the runner and its two processes, the attacker and the witness. */
import type { Tally, TargetAddresses } from "./attack.ts";

export interface AttackerOrder {
  readonly target: TargetAddresses;
  readonly attack: string;
  readonly connections: number;
  readonly localAddress: string | undefined;
}

/** The runner orders the attack, waits for `prepared`, starts it for a time, and receives tallies. */
export type ToAttacker = { readonly prepare: AttackerOrder } | { readonly runForMs: number };
export type FromAttacker = { readonly prepared: true } | { readonly tally: Tally };

export interface WitnessOrder {
  readonly target: TargetAddresses;
  readonly callsPerSecond: number;
  readonly publishesPerSecond: number;
  readonly localAddress?: string;
}

/** The operations of honest clients. `health`: of each program, the gateway's on its admin port. */
export const sampleKinds = ["call", "publication", "connect", "bootstrap", "gateway health", "API health"] as const;
export type SampleKind = (typeof sampleKinds)[number];

export interface Sample {
  readonly kind: SampleKind;
  /** Unix ms, when it should begin. */
  readonly dueAtMs: number;
  /** From then until the answer, or until the failure was known. */
  readonly tookMs: number;
  readonly failed: boolean;
}

export type ToWitness = { readonly witness: WitnessOrder };
/** `lateMs`: the longest delay of the witness's own event loop since the last message. */
export type FromWitness = { readonly ready: true } | { readonly samples: readonly Sample[]; readonly lateMs: number };
