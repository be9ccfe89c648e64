import type { ConnectCode, DisconnectCode, RequestCode, WireError } from "../../../shared/protocol/codes.ts";
import { boundedRetryAfterMs } from "../../../shared/protocol/retry-after.ts";
import { type Conflict, readConflict } from "./conflict.ts";

/** Codes that this SDK gives by itself, without the gateway's word. */
export type ClientCode =
  /** Nothing was sent: there is no connection at the moment. Retryable. */
  | "not_connected"
  /** Nothing was sent: as many calls as may wait are waiting already. Retryable. */
  | "queue_full"
  /** The connection, or a try for one, failed without a word from the gateway. Retryable. */
  | "connection_lost"
  /** The token callback failed or took too long. Retryable. */
  | "token_unavailable"
  /** The bootstrap endpoint could not be asked, and no address is known from before. Retryable. */
  | "bootstrap_unavailable"
  /** `unsubscribe()` came before the answer to `subscribe()`. */
  | "unsubscribed"
  /** `close()` was called. */
  | "closed";

/** A service may answer with codes of its own. */
export type ErrorCode = RequestCode | ConnectCode | DisconnectCode | ClientCode | (string & {});

/** The one error of this SDK. `code` says what happened, `retryable` whether the same again may help. */
export class TidegateError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  /** Milliseconds to wait before another try, where known; an hour at most. */
  readonly retryAfterMs: number | undefined;
  /** The HTTP status of the service, where it answered. */
  readonly status: number | undefined;
  /** Whatever else the service's refusal had beside `code` and `message`. Not checked. */
  readonly details: Readonly<Record<string, unknown>> | undefined;
  /** Of a `conflict`: where the channel stands, and what was missed. */
  readonly conflict: Conflict | undefined;

  constructor(error: Omit<WireError, "code"> & { code: ErrorCode }, options?: { cause: unknown }) {
    super(error.message, options);
    this.name = "TidegateError";
    this.code = error.code;
    this.retryable = error.retryable;
    this.retryAfterMs = boundedRetryAfterMs(error.retryAfterMs);
    this.status = error.status;
    this.details = error.details;
    this.conflict = error.code === "conflict" ? readConflict(error.details) : undefined;
  }
}

/** An error that this SDK gives by itself. */
export function failure(code: ErrorCode, message: string, retryable = false, cause?: unknown): TidegateError {
  return new TidegateError({ code, message, retryable }, { cause });
}
