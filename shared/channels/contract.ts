/**
 * The contract between publishers, gateways and the store of channels. Two implementations, memory-broker.ts and
 * redis-broker.ts, pass the same suite (test/contract/broker-suite.ts).
 *
 * Every implementation MUST
 * - give the publications of one channel offsets that only grow, and name each one's predecessor (`prev`);
 * - show followers of a channel its publications in offset order, each at most once, and never before it is stored;
 * - report an interruption of what followers see, and its end, so that they can compare positions;
 * - fail with `broker_unavailable` within a bounded time when the store cannot be asked.
 * It MUST NOT deliver what it accepted before an interruption after that interruption.
 */
import { randomUUID } from "node:crypto";
import type { IdentityKey } from "../protocol/identity-key.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Position } from "../protocol/wire.ts";
import type { StoreState } from "../runtime/store-state.ts";

export type { Position };

/** How much of a channel is kept: its namespace's options. */
export interface Retention {
  historySize: number;
  /** Counted from the last publication. */
  historySeconds: number;
}

/** A publication in the order of its channel. `data` is JSON text, as stored. */
export interface Publication {
  offset: number;
  /** The offset before this one: `offset - 1`, but for a jump. */
  prev: number;
  event: string;
  data: string;
}

export interface PublishRequest {
  channel: string;
  event: string;
  /** JSON text. */
  data: string;
  retention: Retention;
  /** A second publish with the same id within {@link idempotencySeconds} answers like the first. */
  id?: string;
  /** Publish only if the channel stands exactly here. */
  expect?: Position;
}

export type PublishOutcome =
  { kind: "published"; position: Position; duplicate: boolean } | { kind: "conflict"; position: Position };

export type EphemeralRequest = Pick<PublishRequest, "channel" | "event" | "data" | "id">;

export interface HistoryQuery {
  channel: string;
  retention: Retention;
  /** Exclusive. Absent: from the oldest that is kept. */
  after?: number | undefined;
  /** With another epoch than the channel's, no publications are read. */
  epoch?: string | undefined;
  /** `limit` and `maxBytes` keep the newest instead of the oldest. The slice is in offset order all the same. */
  newest?: boolean | undefined;
  /**
   * The slice has to stand here at least: same epoch, this offset or a later one, else the primary is asked. Absent, and
   * for positions alone, it is asked anyway.
   */
  reaching?: Position | undefined;
  /** 0: the position is all that is asked for. */
  limit: number;
  /** Reading stops before the data of the publications exceeds this, but never before the first. */
  maxBytes: number;
}

/** What is kept after `after`, in order. `position` is where the channel stands. */
export interface HistorySlice {
  position: Position;
  publications: Publication[];
  /** `limit` or `maxBytes` left out what is kept: the newest of it, or the oldest where the newest were asked for. */
  more: boolean;
  /** How long all of it is kept, unless something is published; undefined where nothing was read. */
  keptForMs?: number;
}

export interface Ephemeral {
  event: string;
  data: string;
}

/** To the sessions of a user, at most once. */
export type UserMessage =
  /** `data` is JSON text. */
  | { kind: "send"; event: string; data: string }
  /** All of the user's sessions, or one. */
  | { kind: "disconnect"; reason: string; reconnect: boolean; sessionId?: string }
  | { kind: "subscribe"; channel: string }
  /** `at`: Unix ms by the store's clock; the grants issued until then are withdrawn. */
  | { kind: "unsubscribe"; channel: string; at: number }
  /** The session was taken over by a newer claim. */
  | { kind: "replaced"; sessionId: string; claim: number };

/** What a follower sees. Calls are made one after the other, in order. */
export interface BrokerListener {
  onPublication(channel: string, epoch: string, publication: Publication): void;
  onEphemeral(channel: string, ephemeral: Ephemeral): void;
  onUserMessage(user: IdentityKey, message: UserMessage): void;
  /** After an interruption: messages may have been lost; every topic is followed again. */
  onRestored(): void;
}

/** What can be followed. */
export type Topic = { kind: "channel"; name: string } | { kind: "user"; name: IdentityKey };

export interface ChannelBroker extends Service {
  publish(request: PublishRequest): Promise<PublishOutcome>;
  /** Delivered to followers, not stored, moves no offset. Answers whether the id was seen before. */
  publishEphemeral(request: EphemeralRequest): Promise<{ duplicate: boolean }>;
  sendToUser(user: IdentityKey, message: UserMessage): Promise<void>;
  /** Gives a channel that never had a publication its epoch, at offset 0. */
  readHistory(query: HistoryQuery): Promise<HistorySlice>;
  /** Resolves once everything published from now on is seen. Calls for one topic must not overlap with its unfollow. */
  follow(topic: Topic): Promise<void>;
  unfollow(topic: Topic): Promise<void>;
  listen(listener: BrokerListener): void;
  readonly state: StoreState;
}

/** How long an `id` is remembered, per channel. */
export const idempotencySeconds = 300;
/** Offsets and epoch outlive the history by this, so that trimmed and gone stay different things. */
export const stateSecondsBeyondHistory = 86_400;

/** Names a channel's history; opaque. A new one means that the history before it is gone. */
export function newEpoch(): string {
  return randomUUID().slice(0, 8);
}
