/** W3C Trace Context, version 00. */
import { randomFillSync } from "node:crypto";

const traceBytes = 16;
const spanBytes = 8;
/** Random bytes for 256 traces: generating them at once costs a fraction of generating them one by one. */
const random = Buffer.alloc(256 * (traceBytes + spanBytes));
let used = random.length;

/**
 * Continues a caller's trace with a span of its own and the caller's flags. Without one a new trace begins. It is sampled:
 * samplers that follow their parent, the default of OpenTelemetry, would record nothing otherwise.
 * @param parent a valid one
 */
export function newTraceparent(parent?: string): string {
  if (parent === undefined) return `00-${randomHex(traceBytes)}-${randomHex(spanBytes)}-01`;
  const [version, trace, , flags] = parent.split("-");
  return [version, trace, randomHex(spanBytes), flags].join("-");
}

function randomHex(bytes: number): string {
  if (used + bytes > random.length) {
    randomFillSync(random);
    used = 0;
  }
  used += bytes;
  return random.toString("hex", used - bytes, used);
}
