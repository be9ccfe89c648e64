/**
 * Shapes that the server sends: acks and events. Import-free, shared with the client SDK.
 * Shapes that the server receives are schemas, in client-messages.ts.
 */
import type { RecoveryReason, WireError } from "./codes.ts";

/** Where a session stands in a channel: an offset within one history, which the epoch names. */
export interface Position {
  epoch: string;
  offset: number;
}

/** A publication as history and acks carry it. `prev` only where it is not `offset - 1`. */
export interface WirePublication {
  offset: number;
  prev?: number;
  event: string;
  data: unknown;
}

/** How a client spreads its return: a random moment in the window, after the minimum. */
export interface ReconnectPolicy {
  minDelayMs: number;
  windowMs: number;
}

/** Where to connect, and with what: the answer of `GET /v1/bootstrap`. */
export interface Bootstrap {
  url: string;
  reconnect: ReconnectPolicy;
  /** Of the rollouts. */
  group: string;
  config: Record<string, unknown>;
}

export interface Welcome {
  protocol: number;
  node: string;
  sessionId: string;
  user: string;
  /** Absent: the user has none. */
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
  /** Sealed proof of what the subscribe hook or the server allowed: presented again, nobody is asked. */
  grant?: string;
}

/** The server subscribed this session. `grant`: to subscribe again after a reconnect. */
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

/** Who is in a channel; of a large one only how many users. */
export type PresenceAck = { members: PresenceMember[] } | { count: number };

/** A user's first session came to a channel, or the last one left it. */
export interface JoinLeave {
  channel: string;
  user: string;
  /** Absent: the user has none. */
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
  /** By channel: what the session subscribes with by a grant, for as long as the new token. */
  grants?: Record<string, string>;
}

/** The answer of the service a `call` event is routed to. */
export interface CallAck {
  data: unknown;
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

/** Go on elsewhere, in this slot: until then, and where `moves` was said until the deadline, this connection is served. */
export interface Drain {
  reconnectInMs: number;
  deadlineInMs: number;
  /** Where to; absent: where it came from. */
  url?: string;
}

export interface Disconnect {
  code: string;
  reason: string;
  reconnect: boolean;
  retryAfterMs?: number;
}

export type { RecoveryReason, WireError };
