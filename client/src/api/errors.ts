import type { ConnectCode, DisconnectCode, RequestCode, WireError } from "../../../shared/protocol/codes.ts";
import { boundedRetryAfterMs } from "../../../shared/protocol/retry-after.ts";
import { type Conflict, readConflict } from "./conflict.ts";

/** Codes of the SDK's own errors. */
export type ClientCode =
  /** Nothing was sent: there is no connection. Retryable. */
  | "not_connected"
  /** Nothing was sent: the queue of waiting calls is full, see `OfflineBounds`. Retryable. */
  | "queue_full"
  /** The transport failed, or the gateway did not answer in time. Retryable. */
  | "connection_lost"
  /** The token function threw, took longer than 15 s, or returned no token. Retryable. */
  | "token_unavailable"
  /** The bootstrap endpoint did not answer, and has not answered before. Retryable. */
  | "bootstrap_unavailable"
  /** `unsubscribe()` was called before the answer to `subscribe()`. */
  | "unsubscribed"
  /** The application's `AbortSignal` aborted. */
  | "aborted"
  /** `close()` was called. */
  | "closed";

/** The gateway's codes, the SDK's own, and any code that a service answers with. */
export type ErrorCode = RequestCode | ConnectCode | DisconnectCode | ClientCode | (string & {});

/** Every error of this SDK. `code` says what happened, `retryable` whether the same action may succeed later. */
export class TidegateError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  /** Milliseconds to wait before a retry, if the gateway or the service named a time; one hour at most. */
  readonly retryAfterMs: number | undefined;
  /** HTTP status of the service's answer; absent if no service answered. */
  readonly status: number | undefined;
  /** Further members of the service's answer, unchecked. */
  readonly details: Readonly<Record<string, unknown>> | undefined;
  /** Only with the code `conflict`, and if the service passed on the conflict of its publish. */
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

/** One of the SDK's own errors. */
export function failure(code: ErrorCode, message: string, retryable = false, cause?: unknown): TidegateError {
  return new TidegateError({ code, message, retryable }, { cause });
}
