import { randomFillSync } from "node:crypto";

const traceBytes = 16;
const spanBytes = 8;
/** Random bytes for 256 traces: generating them at once costs a fraction of generating them one by one. */
const random = Buffer.alloc(256 * (traceBytes + spanBytes));
let used = random.length;

/** A new trace (W3C Trace Context), not sampled. */
export function newTraceparent(): string {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  const spanAt = used + traceBytes;
  const end = spanAt + spanBytes;
  const traceparent = `00-${random.toString("hex", used, spanAt)}-${random.toString("hex", spanAt, end)}-00`;
  used = end;
  return traceparent;
}
