import type { Counter, Metrics } from "../runtime/metrics.ts";

export type DoorCounter = Counter<"door" | "reason">;

/** Connections that a door closed by itself; {@link Closure} says why. */
export function createDoorCounter(metrics: Metrics): DoorCounter {
  return metrics.counter(
    "door_closed_total",
    "Connections that a door closed: crowded, full, pipelined, late or malformed",
    ["door", "reason"],
  );
}
