/**
 * The load factor: one number for how full a node is, 1.0 = at target.
 *
 * ```
 * factor = (Σ contributionᵢ⁸)^(1/8)
 * contribution = used ÷ allowed                            connections, delay, memory, outbound, admissions
 * contribution = (u / (1 − u)) / (t / (1 − t)),  u = t × used ÷ allowed     eventLoop, cpu: utilisations with the target t
 * ```
 *
 * A p-norm with p = 8 stays close to the fullest dimension, but two that are nearly full count more than one: with all seven at
 * target the factor is 7^(1/8) = 1.28. Utilisations contribute convexly because a queue grows as u / (1 − u) (M/M/1 queue;
 * L. Kleinrock, Queueing Systems I, 1975, §3.2): half the target is far from full, a tenth above it is close to collapse. Above
 * u = 0.95 the curve continues as a straight line, so that it stays finite.
 */
import { type Dimension, dimensionNames, type Dimensions } from "./dimensions.ts";

const p = 8;

/** Targets: share of time for the event loop, share of the allotted cores for the CPU. */
export const utilisationTargets = { eventLoop: 0.7, cpu: 0.8 } as const;
const straightFrom = 0.95;

export function loadFactor(dimensions: Dimensions): number {
  return pNorm(dimensionNames.map((name) => contribution(name, dimensions[name])));
}

/** The contribution of a dimension: 1.0 at target, increasing, finite. */
export function contribution(name: Dimension, used: number): number {
  if (name !== "eventLoop" && name !== "cpu") return used;
  const target = utilisationTargets[name];
  return waiting(used * target) / waiting(target);
}

/** Divides by the largest value first, so that a single value stays exact. */
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
