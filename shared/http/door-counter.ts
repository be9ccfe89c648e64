import type { Counter, Metrics } from "../runtime/metrics.ts";

export type DoorCounter = Counter<"door" | "reason">;

/** Counts connections that a door closed, by {@link Closure}. */
export function createDoorCounter(metrics: Metrics): DoorCounter {
  return metrics.counter(
    "door_closed_total",
    "Connections that a door closed: crowded, full, pipelined, late or malformed",
    ["door", "reason"],
  );
}
