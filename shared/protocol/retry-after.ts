/** Parses and bounds waits that other parties request, e.g. with `Retry-After`. Import-free. */

/** Longest wait that another party can impose. */
export const maxRetryAfterMs = 3_600_000;

const seconds = /^\d+(\.\d+)?$/;
/** Date.parse accepts nearly anything: "1.5" is a day in January. */
const httpDate = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*, .+ GMT$/;

/**
 * Parses seconds, rounded up to whole ones, or a date (RFC 9110, 10.2.3). @returns ms, at most an hour; undefined where the
 * header gives no usable wait, e.g. a date in the past.
 */
export function parseRetryAfter(header: string, nowMs: number): number | undefined {
  const text = header.trim();
  if (seconds.test(text)) return boundedRetryAfterMs(Math.ceil(Number(text)) * 1000);
  return boundedRetryAfterMs(httpDate.test(text) ? Date.parse(text) - nowMs : undefined);
}

/** Bounds a requested wait to an hour. @returns undefined where it is not a number, or negative. */
export function boundedRetryAfterMs(retryAfterMs: unknown): number | undefined {
  if (typeof retryAfterMs !== "number" || !(retryAfterMs >= 0)) return undefined;
  return Math.min(maxRetryAfterMs, retryAfterMs);
}
