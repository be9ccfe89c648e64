import { randomUUID } from "node:crypto";

/** A new trace (W3C Trace Context), not sampled. Its random parts come from UUIDs, which Node generates in bulk. */
export function newTraceparent(): string {
  const traceId = randomUUID().replaceAll("-", "");
  const spanId = randomUUID().replaceAll("-", "").slice(16);
  return `00-${traceId}-${spanId}-00`;
}
