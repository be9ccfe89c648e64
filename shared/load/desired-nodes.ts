/**
 * The number of nodes that a fleet's work needs: the smallest number of nodes that carry it at a load factor of at most 1.0 even
 * after the loss of one.
 *
 * The factor is computed again for the same work on n nodes. Per node, connections, utilisations, queued bytes and memory above
 * that of an idle node fall as 1/n; memory is measured against what an idle node leaves free. Delay falls as far as utilisation
 * causes it; more nodes do not help against the rest (a noisy neighbour, a pause). Admissions are left out: the fleet's rate does
 * not depend on the number of nodes.
 *
 * The hysteresis needs no memory: the result exceeds the ready nodes when the work requires it, and is lower only if fewer nodes
 * could carry a fifth more work. So every process gives the same answer at any time, and a fleet of the desired size keeps its size
 * while its work varies within a sixth.
 */
import type { Dimensions } from "./dimensions.ts";
import { loadFactor } from "./factor.ts";

/** Fewer nodes than now must be able to carry this many times the work. */
const margin = 1.2;
const lostNodes = 1;
/** Bound against wrong measurements: at most this many times the ready nodes, plus a few. */
const mostTimes = 2;
const mostFurther = 2;
/** Share of memory that a node is assumed to have for work, however much it uses when idle. */
const leastFreeMemory = 0.05;

export interface LoadedNode {
  state: "ready" | "draining";
  dimensions: Dimensions;
  /** The part of `dimensions.memory` used without sessions. */
  idleMemory: number;
}

/** @returns at least 2: one node, and one that may be lost. */
export function desiredNodes(nodes: readonly LoadedNode[]): number {
  const work = workOf(nodes);
  const ready = nodes.filter(({ state }) => state === "ready").length;
  const most = Math.max(1 + lostNodes, mostTimes * ready + mostFurther);
  const atLeast = lostNodes + nodesFor(work, most - lostNodes);
  const atMost = lostNodes + nodesFor(scaled(work, margin), most - lostNodes);
  return Math.max(atLeast, Math.min(ready, atMost));
}

/** The work of the whole fleet, including draining nodes, in units of one node at target. */
function workOf(nodes: readonly LoadedNode[]): Dimensions {
  const sum = (read: (node: LoadedNode) => number): number => nodes.reduce((total, node) => total + read(node), 0);
  return {
    connections: sum(({ dimensions }) => dimensions.connections),
    eventLoop: sum(({ dimensions }) => dimensions.eventLoop),
    cpu: sum(({ dimensions }) => dimensions.cpu),
    delay: sum(({ dimensions: { delay, eventLoop, cpu } }) => Math.min(delay, Math.max(eventLoop, cpu))),
    memory: sum(
      ({ dimensions: { memory }, idleMemory }) =>
        Math.max(0, memory - idleMemory) / Math.max(leastFreeMemory, 1 - idleMemory),
    ),
    outbound: sum(({ dimensions }) => dimensions.outbound),
    admissions: 0,
  };
}

/** @returns at most `most`. */
function nodesFor(work: Dimensions, most: number): number {
  let [tooFew, enough] = [0, most];
  while (enough - tooFew > 1) {
    const middle = Math.floor((tooFew + enough) / 2);
    if (loadFactor(scaled(work, 1 / middle)) <= 1) enough = middle;
    else tooFew = middle;
  }
  return enough;
}

function scaled(work: Dimensions, times: number): Dimensions {
  return Object.fromEntries(Object.entries(work).map(([name, sum]) => [name, sum * times])) as unknown as Dimensions;
}
