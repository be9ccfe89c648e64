import { setTimeout as pause } from "node:timers/promises";

/** A timer may fire up to a millisecond early. */
const beginMs = 3;

/**
 * An endpoint that starts now gets the changes of the next millisecond and later ones: those of this one may be older than it.
 * Resolves after that millisecond has begun, so that a change that is published then is never missed.
 */
export async function begun(): Promise<void> {
  await pause(beginMs);
}
