import type { Disconnect, WireError } from "../../../shared/protocol/wire.ts";
import { TidegateError } from "../api/errors.ts";

/** How a connection ended, unless the client called `close()`. */
export type ConnectionEnd =
  /** The handshake failed, or the client could not begin it: no token, no address. */
  | { kind: "refused"; refusal: WireError | TidegateError }
  /** The gateway sent `sync:disconnect` or a DISCONNECT packet. */
  | { kind: "disconnected"; disconnect: Disconnect }
  /** The transport failed, or a deadline passed. */
  | { kind: "lost"; message: string }
  /** After `closeWhenIdle()`. */
  | { kind: "closed" };

export function errorOf(end: ConnectionEnd): TidegateError {
  if (end.kind === "refused") {
    return end.refusal instanceof TidegateError ? end.refusal : new TidegateError(end.refusal);
  }
  if (end.kind === "disconnected") {
    const { code, reason: message, reconnect: retryable, retryAfterMs } = end.disconnect;
    return new TidegateError({ code, message, retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });
  }
  const message = end.kind === "lost" ? end.message : "the client closed this connection";
  return new TidegateError({ code: "connection_lost", message, retryable: true });
}
