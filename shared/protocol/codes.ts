/**
 * The code table of the wire contract (docs/SPEC.md, "Codes"). Gateway, private API and client SDK share it.
 * Import-free: it is bundled into the published client.
 */

/** Codes of a failed ack and of an HTTP problem. `status` is the HTTP status; `upstream_rejected` uses the service's. */
export const requestCodes = {
  invalid_request: { status: 400, retryable: false },
  unauthenticated: { status: 401, retryable: false },
  bad_signature: { status: 401, retryable: false },
  forbidden: { status: 403, retryable: false },
  missing_scope: { status: 403, retryable: false },
  channel_not_allowed: { status: 403, retryable: false },
  unknown_event: { status: 404, retryable: false },
  no_route: { status: 404, retryable: false },
  unknown_source: { status: 404, retryable: false },
  not_found: { status: 404, retryable: false },
  not_subscribed: { status: 409, retryable: false },
  too_many_channels: { status: 409, retryable: false },
  conflict: { status: 409, retryable: false },
  epoch_changed: { status: 409, retryable: false },
  history_trimmed: { status: 409, retryable: false },
  precondition_failed: { status: 412, retryable: false },
  payload_too_large: { status: 413, retryable: false },
  upstream_rejected: { status: 422, retryable: false },
  upstream_bad_response: { status: 502, retryable: false },
  rate_limited: { status: 429, retryable: true },
  upstream_failed: { status: 502, retryable: true },
  broker_unavailable: { status: 503, retryable: true },
  upstream_unavailable: { status: 503, retryable: true },
  upstream_timeout: { status: 504, retryable: true },
} as const;

/** Codes of a refused connection, sent as `connect_error.data`. */
export const connectCodes = {
  unauthenticated: { retryable: false },
  forbidden: { retryable: false },
  unsupported_protocol: { retryable: false },
  token_expired: { retryable: true },
  at_capacity: { retryable: true },
  rate_limited: { retryable: true },
  draining: { retryable: true },
  auth_unavailable: { retryable: true },
  broker_unavailable: { retryable: true },
} as const;

/** Codes of `sync:disconnect`. `reconnect`: whether the client should reconnect (`disconnected`: as the API requested). */
export const disconnectCodes = {
  token_expired: { reconnect: true },
  slow_consumer: { reconnect: true },
  draining: { reconnect: true },
  revoked: { reconnect: false },
  replaced: { reconnect: false },
  disconnected: { reconnect: false },
} as const;

export type RequestCode = keyof typeof requestCodes;

export function isRequestCode(code: string): code is RequestCode {
  return Object.hasOwn(requestCodes, code);
}

export type ConnectCode = keyof typeof connectCodes;

export function isConnectCode(code: string): code is ConnectCode {
  return Object.hasOwn(connectCodes, code);
}

export type DisconnectCode = keyof typeof disconnectCodes;

/** Why history cannot bridge a position: with `recovered: false`, and in `sync:resync`. */
export type RecoveryReason = "epoch_changed" | "history_trimmed" | "position_ahead" | "too_far_behind";

/** The error of a failed ack. `code` is a {@link RequestCode}, or the service's own for a rejected call. */
export interface WireError {
  code: string;
  message: string;
  retryable: boolean;
  /** Shortest wait before a retry. */
  retryAfterMs?: number;
  /** The HTTP status of the service, if it answered. */
  status?: number;
  /** Of a call or hook: `ce-id` of the request. Log lines about its failure have it. */
  requestId?: string;
  /** Further members of the service's answer, e.g. the position and the publications of a conflict. */
  details?: Record<string, unknown>;
}

/** `connect_error.data` of a refused connection. */
export interface ConnectRefusal {
  /** A {@link ConnectCode}, or the connect hook's own. */
  code: string;
  message: string;
  retryable: boolean;
  retryAfterMs?: number;
  /** Of the connect hook: `ce-id` of the request. Log lines about its failure have it. */
  requestId?: string;
}
