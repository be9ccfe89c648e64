/**
 * The load factor: one number for how full a node is, 1.0 = at target.
 *
 * ```
 * factor = (Σ enteredᵢ⁸)^(1/8)
 * entered = used ÷ allowed                                     connections, delay, memory, outbound, admissions
 * entered = (u / (1 − u)) / (t / (1 − t)),  u = t × used ÷ allowed     eventLoop, cpu: utilisations with the target t
 * ```
 *
 * A p-norm with p = 8 is close to the fullest dimension, yet two that are nearly full count more than one: with all seven
 * at target it is 7^(1/8) = 1.28. Utilisations enter convex because what waits for a server grows as u / (1 − u)
 * (M/M/1 queue; L. Kleinrock, Queueing Systems I, 1975, §3.2): half the target is far from full, a tenth above it is
 * not far from collapse. The curve goes on straight above u = 0.95, so that it stays finite.
 */
import { type Dimension, dimensionNames, type Dimensions } from "./dimensions.ts";

const p = 8;

/** Of the time, and of the cores allotted, a node may use so much. */
export const utilisationTargets = { eventLoop: 0.7, cpu: 0.8 } as const;
const straightFrom = 0.95;

export function loadFactor(dimensions: Dimensions): number {
  return pNorm(dimensionNames.map((name) => entered(name, dimensions[name])));
}

/** What a dimension counts for: 1.0 at target, rising, finite. */
export function entered(name: Dimension, used: number): number {
  if (name !== "eventLoop" && name !== "cpu") return used;
  const target = utilisationTargets[name];
  return waiting(used * target) / waiting(target);
}

/** By the largest, so that one alone comes out as it is. */
export function pNorm(values: readonly number[]): number {
  const largest = Math.max(...values);
  if (largest <= 0) return 0;
  return largest * values.reduce((sum, value) => sum + (value / largest) ** p, 0) ** (1 / p);
}

function waiting(utilisation: number): number {
  if (utilisation <= straightFrom) return utilisation / (1 - utilisation);
  const atKnee = straightFrom / (1 - straightFrom);
  return atKnee + (utilisation - straightFrom) / (1 - straightFrom) ** 2;
}
