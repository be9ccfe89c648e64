import type { Dimensions } from "./dimensions.ts";
import { entered, pNorm } from "./factor.ts";

/** An overloaded node with free seats still takes a little: where all are overloaded, somebody has to. */
const leastHeadroom = 0.05;

/**
 * What a node can take of the fleet's admissions, against what the others can: the seats without a session × its headroom, the part of
 * the target that event loop, CPU, delay, memory and outbound leave. Seats count by themselves, and admissions not at all:
 * in a storm they are at their limit everywhere. 0: nothing, it drains or is full.
 */
export function admissionWeight(node: { draining: boolean; freeSeats: number; dimensions: Dimensions }): number {
  if (node.draining) return 0;
  const { eventLoop, cpu, delay, memory, outbound } = node.dimensions;
  const strain = pNorm([entered("eventLoop", eventLoop), entered("cpu", cpu), delay, memory, outbound]);
  return Math.max(0, node.freeSeats) * Math.max(leastHeadroom, 1 - strain);
}
