import type { Dimensions } from "./dimensions.ts";
import { contribution, pNorm } from "./factor.ts";

/** Overloaded nodes with free seats keep this much: if all nodes are overloaded, some must still admit. */
const leastHeadroom = 0.05;

/**
 * The weight of a node in the division of the fleet's admissions: free seats × headroom. Headroom is what event loop, CPU, delay,
 * memory and outbound leave of the target. Admissions are left out: in a storm they are at the limit on every node. 0 for a node
 * that drains or is full.
 */
export function admissionWeight(node: { draining: boolean; freeSeats: number; dimensions: Dimensions }): number {
  if (node.draining) return 0;
  const { eventLoop, cpu, delay, memory, outbound } = node.dimensions;
  const strain = pNorm([contribution("eventLoop", eventLoop), contribution("cpu", cpu), delay, memory, outbound]);
  return Math.max(0, node.freeSeats) * Math.max(leastHeadroom, 1 - strain);
}
