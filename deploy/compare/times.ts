/** Times as people and other systems write them. Pure. */

const numeric = /^\d+(\.\d+)?$/;
const day = /^\d{4}-\d\d-\d\d$/;
const withZone = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)? ?(Z|[+-]\d\d(:?\d\d)?)$/;

export const timeForm = "Unix ms, or a time of ISO 8601 with its time zone, such as 2026-11-29T02:00:00Z";

/**
 * Unix ms. Undefined for what is no time, and for a time of day without its zone: it is another moment on each machine, and two of them in
 * the hour after which clocks are set back. A day begins in UTC.
 */
export function timeOf(text: string): number | undefined {
  if (numeric.test(text)) return Number(text);
  const ms = day.test(text) || withZone.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(ms) ? undefined : ms;
}
