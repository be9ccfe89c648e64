import type * as wire from "../../../shared/protocol/wire.ts";
import type { ChannelEnd, PublicationMeta, Subscription } from "../api/channel.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import type { Random } from "../calls/backoff.ts";
import type { Requester } from "../calls/requester.ts";
import type { Deduplicator } from "./deduplicator.ts";
import { ChannelDelivery } from "./delivery.ts";
import { ChannelSubscription } from "./subscription.ts";

/** One of the application's channel objects, as the channel that it shares with others calls it. */
export interface ChannelReader {
  published(event: string, data: unknown, meta: PublicationMeta): void;
  resync(resync: wire.Resync): void;
  ended(end: ChannelEnd): void;
  joined(join: wire.JoinLeave): void;
  left(leave: wire.JoinLeave): void;
}

/** A `subscribe()` without an answer. */
interface PendingSubscribe {
  resolve(subscription: Subscription): void;
  reject(error: TidegateError): void;
  /** Set: another reader subscribed before. This one begins where the channel is at the answer. */
  joins: { from: wire.Position | null } | null;
}

/** A channel on the connection: one subscription, which the readers share. It lasts while one of them is subscribed. */
export class FollowedChannel {
  readonly name: string;
  readonly #delivery: ChannelDelivery;
  readonly #subscription: ChannelSubscription;
  readonly #changed: () => void;
  /** They hear what arrives. */
  readonly #readers = new Set<ChannelReader>();
  readonly #subscribers = new Set<ChannelReader>();
  readonly #pending = new Map<ChannelReader, PendingSubscribe>();
  /** The server made the subscription. Ends when an object that never subscribed calls `unsubscribe()`. */
  #heldByServer = false;

  /** @param changed called when `handedOver` or `unused` may have become true */
  constructor(name: string, random: Random, deduplicator: Deduplicator, changed: () => void) {
    this.name = name;
    this.#changed = changed;
    this.#delivery = new ChannelDelivery(name, deduplicator, {
      published: (event, data, meta) => this.#each((reader) => reader.published(event, data, meta)),
      resync: (resync) => this.#each((reader) => reader.resync(resync)),
      answered: (subscription) => this.#answered(subscription),
    });
    this.#subscription = new ChannelSubscription(name, random, this.#delivery, {
      ended: (end, error) => this.#ended(end, error),
      settled: changed,
    });
  }

  get position(): wire.Position | null {
    return this.#delivery.position;
  }

  /** For requests of what the channel has now. */
  get connection(): Requester | undefined {
    return (this.#delivery.source ?? this.#delivery.newest)?.connection;
  }

  get handedOver(): boolean {
    return this.#delivery.handedOver;
  }

  /** No reader, and nothing that the gateway holds or is asked for. */
  get unused(): boolean {
    return this.#readers.size + this.#subscribers.size === 0 && this.#subscription.idle && !this.#delivery.granted;
  }

  /** The reader hears what arrives, also without a `subscribe()` of its own. */
  listen(reader: ChannelReader): void {
    if (!this.#pending.get(reader)?.joins) this.#readers.add(reader);
  }

  isSubscribed(reader: ChannelReader): boolean {
    return this.#subscribers.has(reader);
  }

  /** Only for a reader that is not subscribed. The position counts if it is the first one. */
  subscribe(reader: ChannelReader, position: wire.Position | null): Promise<Subscription> {
    const { wanted, closed } = this.#subscription;
    if (closed) return Promise.reject(closed);
    this.#subscribers.add(reader);
    if (wanted?.answered && this.position) {
      this.#readers.add(reader);
      return Promise.resolve(startsAt(this.position, position));
    }
    const promise = new Promise<Subscription>((resolve, reject) => {
      this.#pending.set(reader, { resolve, reject, joins: wanted && { from: position } });
    });
    // What is replayed before the answer may lie before the position of this reader's snapshot.
    if (wanted) this.#readers.delete(reader);
    else {
      this.#readers.add(reader);
      this.#subscription.subscribe(position);
    }
    return promise;
  }

  /**
   * The reader hears nothing from now on. The last one ends the subscription.
   *
   * @param error for its pending `subscribe()`
   * @param hasSubscribed now or earlier: it leaves the server's subscription to the others
   */
  leave(reader: ChannelReader, error: TidegateError, hasSubscribed: boolean): void {
    this.#readers.delete(reader);
    this.#pending.get(reader)?.reject(error);
    this.#pending.delete(reader);
    this.#subscribers.delete(reader);
    if (!hasSubscribed) this.#heldByServer = false;
    if (this.#subscribers.size === 0 && !this.#heldByServer) this.#subscription.unsubscribe();
  }

  /** The reader has no listener left: what arrives need not be kept for it. */
  ignore(reader: ChannelReader): void {
    if (!this.#subscribers.has(reader)) this.#readers.delete(reader);
    this.#changed();
  }

  /** For a `subscribe()` whose time is up. */
  get late(): TidegateError {
    const code = this.connection ? "upstream_timeout" : "not_connected";
    return this.#subscription.refusal ?? failure(code, `timed out subscribing to ${this.name}`, true);
  }

  connected(connection: Requester): void {
    this.#subscription.connected(connection);
  }

  disconnected(connection: Requester): void {
    this.#subscription.disconnected(connection);
  }

  /** Final. */
  close(error: TidegateError): void {
    this.#subscribers.clear();
    this.#subscription.close(error);
    this.#rejectPending(error);
  }

  deliver(connection: Requester, event: string, data: unknown, meta: PublicationMeta): void {
    this.#delivery.deliver(connection, event, data, meta);
  }

  resync(connection: Requester, resync: wire.Resync): void {
    this.#delivery.resync(connection, resync);
  }

  grantRenewed(grant: string): void {
    this.#subscription.grantRenewed(grant);
  }

  revoked(connection: Requester, revoked: wire.Revoked): void {
    this.#subscription.revoked(connection, revoked);
  }

  /** Returns true unless the application had requested the channel. */
  subscribed(connection: Requester, subscribed: wire.Subscribed): boolean {
    const isNew = this.#subscription.subscribed(connection, subscribed);
    if (isNew) this.#heldByServer = true;
    return isNew;
  }

  joined(connection: Requester, join: wire.JoinLeave): void {
    if (this.#delivery.isNew(connection, "join", join)) this.#each((reader) => reader.joined(join));
  }

  left(connection: Requester, leave: wire.JoinLeave): void {
    if (this.#delivery.isNew(connection, "leave", leave)) this.#each((reader) => reader.left(leave));
  }

  /** A listener may remove readers: they hear no more of it. */
  #each(call: (reader: ChannelReader) => void): void {
    for (const reader of [...this.#readers]) if (this.#readers.has(reader)) call(reader);
  }

  #answered(subscription: Subscription): void {
    const position = this.position ?? subscription.position;
    for (const [reader, { resolve, joins }] of this.#pending) {
      this.#readers.add(reader);
      resolve(joins ? startsAt(position, joins.from) : subscription);
    }
    this.#pending.clear();
  }

  #ended(end: ChannelEnd, error: TidegateError): void {
    for (const reader of this.#pending.keys()) this.#readers.add(reader);
    this.#subscribers.clear();
    this.#heldByServer = false;
    this.#rejectPending(error);
    this.#each((reader) => reader.ended(end));
    this.#changed();
  }

  #rejectPending(error: TidegateError): void {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) reject(error);
  }
}

/** The answer to a reader that joins a subscription: nothing is replayed to it. */
function startsAt(position: wire.Position, from: wire.Position | null): Subscription {
  return { recovered: from?.epoch === position.epoch && from.offset === position.offset, position };
}
