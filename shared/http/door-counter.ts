import type { Counters } from "../runtime/metrics.ts";

/** Connections that a door closed. */
export const doorCounter = {
  doorClosed: [
    "door_closed_total",
    "Connections that a door closed: crowded, full, pipelined, late or malformed",
    "door",
    "reason",
  ],
} as const;
export type DoorCounter = Counters<typeof doorCounter>["doorClosed"];
