/** Sums of queue depths, for answers and metrics. Pure. */
import type { QueueDepth } from "./contract.ts";

export type DepthFigures = Pick<QueueDepth, "waiting" | "inFlight" | "queues" | "oldestMs">;

const none: DepthFigures = { waiting: 0, inFlight: 0, queues: 0, oldestMs: 0 };

/** @param classes listed also where nothing waits in them */
export function depthsByClass(depths: readonly QueueDepth[], classes: Iterable<string>): Map<string, DepthFigures> {
  const sums = new Map([...classes].map((name) => [name, none]));
  for (const depth of depths) sums.set(depth.class, sum(sums.get(depth.class), depth));
  return sums;
}

export function depthsByTenant(depths: readonly QueueDepth[]): Map<string, DepthFigures> {
  const sums = new Map<string, DepthFigures>();
  for (const depth of depths) sums.set(depth.tenant, sum(sums.get(depth.tenant), depth));
  return sums;
}

function sum(one: DepthFigures = none, other: DepthFigures): DepthFigures {
  return {
    waiting: one.waiting + other.waiting,
    inFlight: one.inFlight + other.inFlight,
    queues: one.queues + other.queues,
    oldestMs: Math.max(one.oldestMs, other.oldestMs),
  };
}
