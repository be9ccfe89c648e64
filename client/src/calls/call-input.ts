/** Checks what the application passes to a call, before anything is sent. No I/O. */
import type { CallOptions } from "../api/call-options.ts";
import { failure, type TidegateError } from "../api/errors.ts";

/** The data as JSON. @throws {TidegateError} `invalid_request`, if JSON cannot carry it */
export function jsonOf(data: unknown): string {
  try {
    // `JSON.stringify` returns undefined for undefined, functions and symbols.
    return JSON.stringify(data, refuseBinary) ?? "null";
  } catch (cause) {
    throw invalid(`the data is not JSON: ${cause instanceof Error ? cause.message : "its toJSON failed"}`, cause);
  }
}

/** @throws {TidegateError} `invalid_request` */
export function checkOptions({ id, timeoutMs, withinMs, repeat = false }: CallOptions): void {
  if (repeat && id === undefined) throw invalid("repeat needs an id, the same for every try");
  if (id !== undefined && typeof id !== "string") throw invalid("id must be a string");
  if (timeoutMs !== undefined && !(Number.isSafeInteger(timeoutMs) && timeoutMs >= 1)) {
    throw invalid("timeoutMs must be a whole number of milliseconds, 1 or more");
  }
  if (withinMs !== undefined && !isWithinMs(withinMs)) throw invalid("withinMs must be a number above 0");
}

/** Milliseconds; `Infinity` stands for the longest timer. */
export function isWithinMs(withinMs: unknown): boolean {
  return typeof withinMs === "number" && withinMs > 0;
}

/** Socket.IO would send it beside the JSON, which no service can receive. `this`: the object that has the member. */
function refuseBinary(this: unknown, key: string, value: unknown): unknown {
  // A toJSON, such as that of Node's Buffer, has replaced `value`.
  const own = (this as Record<string, unknown>)[key];
  const isBlob = typeof Blob === "function" && own instanceof Blob;
  if (isBlob || own instanceof ArrayBuffer || ArrayBuffer.isView(own)) {
    throw new TypeError("it contains binary data; send that as base64 text, or over HTTP");
  }
  return value;
}

function invalid(message: string, cause?: unknown): TidegateError {
  return failure("invalid_request", message, false, cause);
}
