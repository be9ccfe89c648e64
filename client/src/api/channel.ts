import type * as wire from "../../../shared/protocol/wire.ts";

/**
 * Second argument of a listener. A publication with history has an `offset`, and `prev`, the offset before it, unless that
 * is `offset - 1`. An ephemeral publication has neither, and is not recovered.
 */
export interface PublicationMeta {
  channel: string;
  offset?: number;
  prev?: number;
}

export interface SubscribeOptions {
  /**
   * Start after this position, e.g. that of a snapshot. Without it: only new publications. Where another channel object of
   * this name is subscribed already, this one starts at the channel's current position.
   */
  position?: wire.Position;
  /**
   * Time for the answer, in milliseconds, all waiting for a connection and all refusals included. Then the object
   * unsubscribes, and the promise rejects with the last refusal, or with `not_connected`. Without it the promise waits.
   */
  withinMs?: number;
  /** Ends the wait for the answer: the object unsubscribes, and the promise rejects with `aborted`. */
  signal?: AbortSignal;
}

/** The first answer to `subscribe()`. */
export interface Subscription {
  /**
   * True: every publication after the position passed has been delivered. False, also without a position: take a snapshot
   * and apply the publications after `position` to it.
   */
  recovered: boolean;
  position: wire.Position;
  /** Why the position passed could not be recovered. */
  reason?: wire.RecoveryReason;
}

/** A subscription ended, other than by `unsubscribe()` or `close()`. */
export interface ChannelEnd {
  channel: string;
  /** `revoked`, or the code of the refusal. */
  code: string;
  reason: string;
}

/** The users in a channel: `{ members }`, or `{ count }` for a large channel (over 200 sessions). */
export type Presence = wire.PresenceAck;

export interface History {
  /** The channel's newest position. */
  position: wire.Position;
  /** In offset order. */
  publications: wire.WirePublication[];
}

/**
 * A channel, as one part of an application follows it: each object has its own listeners and its own subscription. Objects
 * of the same name share one subscription at the gateway, which lasts while one of them is subscribed. `Events` maps event
 * names to the types of their data.
 *
 * Each `on…` returns a function that removes the listener. Listeners stay across reconnects, `unsubscribe()` and the end
 * of a subscription. They hear what the client receives of the channel, whichever object subscribed, until this object's own
 * `unsubscribe()`. An error that a listener throws is reported as uncaught, and stops no other listener.
 */
export interface Channel<Events extends object = Record<string, unknown>> {
  readonly name: string;
  /** Of the last publication delivered, or of the last answer or resync if that is newer; `null` before the first. */
  readonly position: wire.Position | null;

  /**
   * Subscribes now and after every reconnect, until `unsubscribe()` or `onEnd`. Publications that were missed are delivered
   * first, in order; the promise resolves after them. Without a connection it stays pending until there is one, and
   * retryable refusals are retried. On an object that is already subscribed it returns the first promise again. Add
   * listeners before you call it: publications without a listener are dropped.
   *
   * @throws {TidegateError} the gateway's refusal, e.g. `channel_not_allowed`, `too_many_channels`; `unsubscribed`;
   *   `aborted`; `closed`
   */
  subscribe(options?: SubscribeOptions): Promise<Subscription>;

  /**
   * This object delivers nothing from now on; others of the same name are not affected. Call it when a part of the
   * application is done with the channel, also after `onEnd`: the client then forgets the object. Idempotent.
   */
  unsubscribe(): void;

  /** Calls the listener for each publication with this event name: in offset order, each once. */
  on<Event extends keyof Events & string>(
    event: Event,
    listener: (data: Events[Event], meta: PublicationMeta) => void,
  ): () => void;

  /**
   * History could not bridge a gap, e.g. after a long time without a connection. Take a snapshot and apply the
   * publications after `position` to it; those are delivered meanwhile.
   */
  onResync(listener: (resync: wire.Resync) => void): () => void;

  /** The gateway ended the subscription, or refused it for good. `subscribe()` may be called again. */
  onEnd(listener: (end: ChannelEnd) => void): () => void;

  /**
   * Reads publications after the offset `after`, without it from the oldest that is kept. Returns at most `limit` of them
   * (1000 by default and at most) and 512 KiB; read on after the last `offset`. Needs the subscription.
   *
   * @throws {TidegateError} `not_subscribed`; `epoch_changed`, `history_trimmed`: take a snapshot; `not_connected`;
   *   `upstream_timeout`, when the connection was lost before the answer
   */
  history(options?: { after?: number; limit?: number }): Promise<History>;

  /**
   * Reads the users in the channel. Needs the subscription.
   *
   * @throws {TidegateError} `invalid_request`, if the channel's namespace keeps no presence; `not_subscribed`;
   *   `not_connected`; `upstream_timeout`
   */
  presence(): Promise<Presence>;

  /** A user's first session joined the channel, if its namespace reports joins. */
  onJoin(listener: (join: wire.JoinLeave) => void): () => void;

  /** A user's last session left the channel, if its namespace reports leaves. */
  onLeave(listener: (leave: wire.JoinLeave) => void): () => void;
}
