import type {
  JoinLeave,
  Position,
  PresenceAck,
  RecoveryReason,
  Resync,
  WirePublication,
} from "../../../shared/protocol/wire.ts";

/** Second argument of a listener: a publication with history, or an ephemeral one. */
export type PublicationMeta = { channel: string; offset: number; prev?: number } | { channel: string };

/** The first answer to `subscribe()`. With `recovered: false`, take a snapshot and go on from `position`. */
export interface Subscription {
  /** Whether everything since the position presented has been delivered. `false` where none was. */
  recovered: boolean;
  position: Position;
  /** Why the position presented could not be recovered. */
  reason?: RecoveryReason;
}

/** The subscription is over, other than by `unsubscribe()` or `close()`. */
export interface ChannelEnd {
  channel: string;
  /** `revoked`, or the code of the refusal. */
  code: string;
  reason: string;
}

/** Who is in a channel; of a large one only how many users. */
export type Presence = PresenceAck;

export interface History {
  position: Position;
  publications: WirePublication[];
}

/**
 * A channel as one client sees it. `Events` maps event names to the types of their data.
 * Listeners stay through reconnects, `unsubscribe()` and the end of a subscription.
 */
export interface Channel<Events extends object = Record<string, unknown>> {
  readonly name: string;
  /** Where this client stands; `null` before the first answer. */
  readonly position: Position | null;

  /**
   * Asks for the channel's publications, now and after every reconnect, until `unsubscribe()`. Missed publications are
   * delivered first, in order; the promise resolves after those. While not connected it waits for the connection;
   * a retryable refusal is tried again. A channel that is subscribed already keeps its promise.
   * Listeners added before miss nothing.
   *
   * @param options.position where a snapshot or an earlier stay ended; without it, only new publications come
   * @throws {TidegateError} what the gateway refused with, e.g. `channel_not_allowed`; `unsubscribed`; `closed`
   */
  subscribe(options?: { position?: Position }): Promise<Subscription>;

  /** From now on nothing of the channel is delivered. */
  unsubscribe(): void;

  /** Called for each publication with that event, in offset order, none twice. Returns what takes it away again. */
  on<Event extends keyof Events & string>(
    event: Event,
    listener: (data: Events[Event], meta: PublicationMeta) => void,
  ): () => void;

  /**
   * History could not bridge a gap: fetch a snapshot, apply to it what is after `position`. Publications after
   * `position` are delivered meanwhile.
   */
  onResync(listener: (resync: Resync) => void): () => void;

  /** The gateway ended the subscription, or refused it for good. `subscribe()` may be called again. */
  onEnd(listener: (end: ChannelEnd) => void): () => void;

  /**
   * Reads publications after the offset `after` (default 0), at most `limit`. Needs the subscription.
   *
   * @throws {TidegateError} `not_subscribed`, `epoch_changed`, `history_trimmed`, `not_connected`, …
   */
  history(options?: { after?: number; limit?: number }): Promise<History>;

  /**
   * Who is in the channel now, where its namespace keeps that. Needs the subscription.
   *
   * @throws {TidegateError} `not_subscribed`, `not_connected`, …
   */
  presence(): Promise<Presence>;

  /** A user's first session came to the channel, where its namespace tells. */
  onJoin(listener: (join: JoinLeave) => void): () => void;

  /** A user's last session left the channel, where its namespace tells. */
  onLeave(listener: (leave: JoinLeave) => void): () => void;
}
