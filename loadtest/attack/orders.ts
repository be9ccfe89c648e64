/** What the runner and its two processes, the attacker and the witness, tell each other. */
import type { Tally, TargetAddresses } from "./attack.ts";

export interface AttackerOrder {
  readonly target: TargetAddresses;
  readonly attack: string;
  readonly connections: number;
  readonly localAddress: string | undefined;
}

/** The runner orders the attack, waits for `prepared`, says how long it goes on, and gets a tally now and then. */
export type ToAttacker = { readonly prepare: AttackerOrder } | { readonly runForMs: number };
export type FromAttacker = { readonly prepared: true } | { readonly tally: Tally };

export interface WitnessOrder {
  readonly target: TargetAddresses;
  readonly callsPerSecond: number;
  readonly publishesPerSecond: number;
  readonly localAddress?: string;
}

/** What honest clients do. `health` is asked of each program, the gateway's on its admin port. */
export const sampleKinds = ["call", "publication", "connect", "bootstrap", "gateway health", "API health"] as const;
export type SampleKind = (typeof sampleKinds)[number];

export interface Sample {
  readonly kind: SampleKind;
  /** Unix ms, when it should have begun. */
  readonly dueAtMs: number;
  /** Until its answer; where it failed, until that was known. */
  readonly tookMs: number;
  readonly failed: boolean;
}

export type ToWitness = { readonly witness: WitnessOrder };
/** `lateMs`: by how much the witness's own event loop was late at most since the last message. */
export type FromWitness = { readonly ready: true } | { readonly samples: readonly Sample[]; readonly lateMs: number };
