/** `Retry-After` of an HTTP answer, and what else asks for a wait. Imports nothing. */

/** Nobody waits for longer because somebody else asks for it. */
export const maxRetryAfterMs = 3_600_000;

const seconds = /^\d+(\.\d+)?$/;
/** The parser of dates takes nearly anything: "1.5" is a day in January. */
const httpDate = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*, .+ GMT$/;

/**
 * Milliseconds from the header's seconds, rounded up to whole ones, or date (RFC 9110, 10.2.3), at most an hour.
 * Undefined: it says nothing that could be followed, such as a date that is over.
 */
export function parseRetryAfter(header: string, nowMs: number): number | undefined {
  const text = header.trim();
  if (seconds.test(text)) return boundedRetryAfterMs(Math.ceil(Number(text)) * 1000);
  return boundedRetryAfterMs(httpDate.test(text) ? Date.parse(text) - nowMs : undefined);
}

/** A wait that somebody else asks for, at most an hour; undefined where it is no number, or negative. */
export function boundedRetryAfterMs(retryAfterMs: unknown): number | undefined {
  if (typeof retryAfterMs !== "number" || !(retryAfterMs >= 0)) return undefined;
  return Math.min(maxRetryAfterMs, retryAfterMs);
}
