import { randomUUID } from "node:crypto";

/** A new trace (W3C Trace Context), not sampled by us. The random parts are those of UUIDs, which Node draws in bulk. */
export function newTraceparent(): string {
  const traceId = randomUUID().replaceAll("-", "");
  const spanId = randomUUID().replaceAll("-", "").slice(16);
  return `00-${traceId}-${spanId}-00`;
}
