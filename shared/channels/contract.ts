/**
 * The contract between publishers, gateways and the store of channels. Both implementations, memory.ts and redis.ts, pass the
 * same suite (test/contract/broker-suite.ts).
 *
 * Every implementation MUST
 * - assign growing offsets to the publications of a channel, and name each one's predecessor (`prev`);
 * - deliver publications to followers in offset order, each at most once, and never before it is stored;
 * - report the end of an interruption, so that followers can compare positions;
 * - fail with `broker_unavailable` within a bounded time when the store is out of reach, or where the publication before a mark is
 *   not stored;
 * - store a mark with its publication, in one step.
 * It MUST NOT deliver a publication after an interruption if it accepted the publication before.
 */
import { randomUUID } from "node:crypto";
import type { IdentityKey } from "../protocol/identity-key.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Position } from "../protocol/wire.ts";
import type { StoreState } from "../runtime/store-state.ts";

export type { Position };

/** How much history a channel keeps; set by its namespace. */
export interface Retention {
  historySize: number;
  /** From the last publication on. */
  historySeconds: number;
}

/** What the change log of one slot keeps. */
export interface ChangeRetention {
  /** The newest change is kept whatever its size. */
  maxBytes: number;
  maxSeconds: number;
  /** Changes that no live cursor needs are kept that long, at most. */
  unclaimedSeconds: number;
  /** Of what is noted of rows of SQL sources that it no longer has; nothing is without it. */
  maxRowBytes?: number;
}

/** `data` is JSON text, as stored. */
export interface Publication {
  offset: number;
  /** Offset of the publication before: `offset - 1`, except after a jump. */
  prev: number;
  event: string;
  data: string;
}

/** A row of a SQL source. */
export interface RowName {
  /** `source/VARIABLE` */
  readonly shard: string;
  /** Digits. */
  readonly id: string;
}

/**
 * Makes a publication that may be repeated at any later time happen once. It belongs to a sequence of publications whose marks grow.
 * For each slot the store keeps the mark of the last one, with the publication.
 */
export interface Mark {
  /** Of the sequence: 1 to 128 visible ASCII characters. */
  name: string;
  /** Digits, as many in every mark of the sequence. A publication whose mark is not above the stored one is a duplicate. */
  at: string;
  /** The mark of the publication before in the same slot; it must be stored. Empty: none is known. */
  before: string;
}

export interface PublishRequest {
  channel: string;
  event: string;
  /** JSON text. */
  data: string;
  retention: Retention;
  /** A repeat with the same id within {@link idempotencySeconds} gets the answer of the first publish. */
  id?: string;
  /** In place of an id. The answer to a duplicate is the present position of the channel. */
  mark?: Mark;
  /** Publish only if the channel is exactly at this position. */
  expect?: Position;
  /** Appends to the change log of the channel's slot, too (shared/changes/contract.ts). */
  changes?: ChangeRetention;
  /** The row that it is made of: its data can be read there once the change log no longer has it. */
  row?: RowName;
  /** Kept with the change of what is no row, so that its publisher knows it again: 1 to 64 visible ASCII characters. */
  origin?: string;
}

export type PublishOutcome =
  { kind: "published"; position: Position; duplicate: boolean } | { kind: "conflict"; position: Position };

export interface EphemeralRequest extends Pick<PublishRequest, "channel" | "event" | "data" | "id"> {
  /** In place of an id. Of a sequence of its own: one that was lost holds up none after it. */
  mark?: Omit<Mark, "before">;
}

export interface HistoryQuery {
  channel: string;
  retention: Retention;
  /** Exclusive. Absent: from the oldest publication kept. */
  after?: number | undefined;
  /** If the channel has another epoch, no publications are read. */
  epoch?: string | undefined;
  /** `limit` and `maxBytes` keep the newest publications instead of the oldest. The slice stays in offset order. */
  newest?: boolean | undefined;
  /**
   * A replica may answer if it is at least here: same epoch, this offset or a later one. Absent, and for a position alone, the
   * primary answers.
   */
  reaching?: Position | undefined;
  /** 0: read the position only. */
  limit: number;
  /** Most bytes of data. The first publication is read whatever its size. */
  maxBytes: number;
}

/** The publications kept after `after`, in order, and the position of the channel. */
export interface HistorySlice {
  position: Position;
  publications: Publication[];
  /** `limit` or `maxBytes` left out publications: the newest ones, or with `newest` the oldest ones. */
  more: boolean;
  /** Time until the history expires, unless something is published; undefined where nothing was read. */
  keptForMs?: number;
}

export interface Ephemeral {
  event: string;
  data: string;
}

/** A message to the sessions of a user, delivered at most once. */
export type UserMessage =
  /** `data` is JSON text. */
  | { kind: "send"; event: string; data: string }
  /** All of the user's sessions, or one. */
  | { kind: "disconnect"; reason: string; reconnect: boolean; sessionId?: string }
  | { kind: "subscribe"; channel: string }
  /** The connect hook is asked again, and clients for newer tokens. */
  | { kind: "refresh" }
  /** `at`: Unix ms by the store's clock; grants issued until then are withdrawn. */
  | { kind: "unsubscribe"; channel: string; at: number }
  /** A newer claim took the session over. */
  | { kind: "replaced"; sessionId: string; claim: number };

/** The broker makes one call at a time, in order. */
export interface BrokerListener {
  onPublication(channel: string, epoch: string, publication: Publication): void;
  onEphemeral(channel: string, ephemeral: Ephemeral): void;
  onUserMessage(user: IdentityKey, message: UserMessage): void;
  /** After an interruption: messages may have been lost; every topic is followed again. */
  onRestored(): void;
}

/** What a listener can follow. */
export type Topic = { kind: "channel"; name: string } | { kind: "user"; name: IdentityKey };

export interface ChannelBroker extends Service {
  publish(request: PublishRequest): Promise<PublishOutcome>;
  /** Delivers to followers without storing or assigning an offset. `duplicate`: the id was seen before, or the mark is not above the stored one. */
  publishEphemeral(request: EphemeralRequest): Promise<{ duplicate: boolean }>;
  sendToUser(user: IdentityKey, message: UserMessage): Promise<void>;
  /** Begins a channel that does not exist, at offset 0 of a new epoch. */
  readHistory(query: HistoryQuery): Promise<HistorySlice>;
  /** Resolves once listeners receive everything published from now on. Must not overlap with an unfollow of the same topic. */
  follow(topic: Topic): Promise<void>;
  unfollow(topic: Topic): Promise<void>;
  listen(listener: BrokerListener): void;
  readonly state: StoreState;
}

/** How long a channel remembers an `id`. */
export const idempotencySeconds = 300;
/** A logged change counts as the bytes of its data, of its channel, event, epoch and offsets, and this for the store's own use. */
export const changeOverheadBytes = 64;
/** The state outlives the history by this, so that "trimmed" and "new epoch" stay distinct. */
const secondsBeyondHistory = 86_400;
/** Short: channels that clients read and nothing publishes to must not fill the store. A new epoch costs their followers nothing: there is nothing to load. */
const emptyStateSeconds = 3_600;

/** How long the epoch and offset of a channel are kept after its last use. */
export function stateSeconds(hasPublications: boolean, { historySeconds }: Pick<Retention, "historySeconds">): number {
  return hasPublications ? historySeconds + secondsBeyondHistory : emptyStateSeconds;
}

/** An opaque name of a channel's history. A new epoch means that the history before it is gone. */
export function newEpoch(): string {
  return randomUUID().slice(0, 8);
}
