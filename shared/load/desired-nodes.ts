/**
 * How many nodes the work of a fleet wants: the smallest number of which all but one carry it with a load factor of at most
 * 1.0, one being room for a node that is lost.
 *
 * The factor is worked out again for the same work on n nodes. Per node, connections, utilisations, queued bytes and the
 * memory above that of an idle node fall as 1/n; memory is measured against what an idle node leaves free. Delay falls
 * with them as far as utilisation accounts for it; what is beyond (a noisy neighbour, a pause) no node takes away.
 * Admissions are left out: the fleet's rate is the same with any number of nodes.
 *
 * Hysteresis without a memory: more than the ready nodes where the work asks for it, fewer only where they would carry a
 * fifth more as well. Whoever asks which process whenever gets the same answer, and a fleet of the desired size keeps it
 * while its work wavers within a sixth.
 */
import type { Dimensions } from "./dimensions.ts";
import { loadFactor } from "./factor.ts";

/** Before there are fewer nodes than now, they must be able to carry so many times the work. */
const margin = 1.2;
const lostNodes = 1;
/** A measurement gone wrong does not ask for any number: at most so many times those that are ready, and a few. */
const mostTimes = 2;
const mostFurther = 2;
/** Of its memory a node has at least so much for work, however large it is when idle. */
const leastFreeMemory = 0.05;

export interface LoadedNode {
  state: "ready" | "draining";
  dimensions: Dimensions;
  /** Of `dimensions.memory`: what it takes without sessions. */
  idleMemory: number;
}

/** @returns at least 2: one, and room for one that is lost. */
export function desiredNodes(nodes: readonly LoadedNode[]): number {
  const work = workOf(nodes);
  const ready = nodes.filter(({ state }) => state === "ready").length;
  const most = Math.max(1 + lostNodes, mostTimes * ready + mostFurther);
  const atLeast = lostNodes + nodesFor(work, most - lostNodes);
  const atMost = lostNodes + nodesFor(scaled(work, margin), most - lostNodes);
  return Math.max(atLeast, Math.min(ready, atMost));
}

/** All the work there is, in nodes that are at target. That of nodes that drain goes to others. */
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
