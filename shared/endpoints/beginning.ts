import { setTimeout as pause } from "node:timers/promises";

/** A timer may fire up to a millisecond early. */
const beginMs = 3;

/**
 * An endpoint that starts now gets changes from the next millisecond on: changes of the present one may be older than the endpoint.
 * Resolves after the next millisecond has begun, so that the endpoint misses no change that is published from then on.
 */
export async function begun(): Promise<void> {
  await pause(beginMs);
}
