/** Delays of retries. Reads no clock and sets no timer. */

/** A uniformly random number in [0, 1). */
export type Random = () => number;

const baseBackoffMs = 1_000;
export const maxBackoffMs = 30_000;
/** Keeps `retryAfterMs: 0` from becoming a busy loop. */
export const minRetryAfterMs = 100;
/** `setTimeout` fires at once for more. */
export const maxTimerMs = 2 ** 31 - 1;

/**
 * Full jitter: a random delay below a bound that starts at 1 s and doubles with each failure up to `maxMs`.
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffDelayMs(earlierFailures: number, random: Random, maxMs = maxBackoffMs): number {
  return random() * Math.min(maxMs, baseBackoffMs * 2 ** earlierFailures);
}

/** Delay before a refused call or subscribe is repeated: its `retryAfterMs` and a backoff on top. */
export function repeatDelayMs(earlierTries: number, retryAfterMs: number | undefined, random: Random): number {
  return Math.max(minRetryAfterMs, (retryAfterMs ?? 0) + backoffDelayMs(earlierTries, random));
}
