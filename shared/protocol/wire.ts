/**
 * Messages from server to client: acks and events. Import-free, shared with the client SDK.
 * Messages from client to server are schemas, in client-messages.ts.
 */
import type { RecoveryReason, WireError } from "./codes.ts";

/** A position in a channel: an offset within the history that the epoch names. */
export interface Position {
  epoch: string;
  offset: number;
}

/** A publication in histories and acks. `prev` only where it is not `offset - 1`. */
export interface WirePublication {
  offset: number;
  prev?: number;
  event: string;
  data: unknown;
}

/** A client reconnects at a random moment within the window, after the minimum delay. */
export interface ReconnectPolicy {
  minDelayMs: number;
  windowMs: number;
}

/** The answer of `GET /v1/bootstrap`: where to connect, and the group's config. */
export interface Bootstrap {
  url: string;
  reconnect: ReconnectPolicy;
  /** The client's rollout group. */
  group: string;
  config: Record<string, unknown>;
}

export interface Welcome {
  protocol: number;
  node: string;
  sessionId: string;
  user: string;
  /** Absent for a user without a tenant. */
  tenant?: string;
  resumed: boolean;
  resumeToken: string | null;
  /** Unix ms: when the session ends unless it is refreshed. */
  expiresAt: number;
  maxPayloadBytes: number;
  reconnect: ReconnectPolicy;
}

export interface SubscribeAck {
  channel: string;
  position: Position;
  recovered: boolean;
  reason?: RecoveryReason;
  publications: WirePublication[];
  /** Sealed proof that the subscribe hook or the server allowed the channel. With it a resubscribe skips the hook. */
  grant?: string;
}

/** The server subscribed this session. `grant`: for the resubscribe after a reconnect. */
export interface Subscribed {
  channel: string;
  position: Position;
  grant: string;
}

export interface PresenceMember {
  user: string;
  /** Absent: the user has none. The same name in another tenant is another user. */
  tenant?: string;
  /** Sessions of the user in the channel. */
  connections: number;
  info?: unknown;
}

/** The members of a channel; for a large channel the number of users. */
export type PresenceAck = { members: PresenceMember[] } | { count: number };

/** A user's first session entered a channel, or the last one left it. */
export interface JoinLeave {
  channel: string;
  user: string;
  /** Absent for a user without a tenant. */
  tenant?: string;
  info?: unknown;
}

export interface HistoryAck {
  position: Position;
  publications: WirePublication[];
}

export interface RefreshAck {
  expiresAt: number;
  resumeToken: string | null;
  /** New grants by channel, for the session's granted subscriptions; valid as long as the new token. */
  grants?: Record<string, string>;
}

/** The answer of the service that a `call` event is routed to. */
export interface CallAck {
  data: unknown;
}

/** An event on an `enqueue` route was stored for its service. */
export interface QueuedAck {
  /** False: the queues of the tenant are full, and the event was dropped (`whenFull: drop` of its class). */
  queued: boolean;
  /** `ce-id` of the request that the service gets. */
  id: string;
}

export type Ack<T extends object> = ({ ok: true } & T) | { ok: false; error: WireError };

export interface Resync {
  channel: string;
  position: Position;
  reason: RecoveryReason;
}

export interface Revoked {
  channel: string;
  reason: string;
}

/** A new reconnect window. */
export interface Policy {
  reconnect: ReconnectPolicy;
}

/** Asks the client to reconnect elsewhere at its reconnect time. The connection is served until then; for clients with `moves` until the deadline. */
export interface Drain {
  reconnectInMs: number;
  deadlineInMs: number;
  /** Where to connect; absent: the address used before. */
  url?: string;
}

export interface Disconnect {
  code: string;
  reason: string;
  reconnect: boolean;
  retryAfterMs?: number;
}

export type { RecoveryReason, WireError };
