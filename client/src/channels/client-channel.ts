import type * as wire from "../../../shared/protocol/wire.ts";
import type { Channel, ChannelEnd, History, Presence, PublicationMeta, Subscription } from "../api/channel.ts";
import type { Requester } from "../calls/requester.ts";
import type { Deduplicator } from "./deduplicator.ts";
import { ChannelDelivery } from "./delivery.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { EventListeners, Listeners } from "./listeners.ts";
import { ChannelSubscription } from "./subscription.ts";
import type { Random } from "../calls/backoff.ts";

/** A channel as the application sees it. The SDK calls the methods that {@link Channel} lacks. */
export class ClientChannel implements Channel {
  readonly name: string;
  readonly #delivery: ChannelDelivery;
  readonly #subscription: ChannelSubscription;
  readonly #publications = new EventListeners<[data: unknown, meta: PublicationMeta]>();
  readonly #resyncs = new Listeners<[wire.Resync]>();
  readonly #ends = new Listeners<[ChannelEnd]>();
  readonly #joins = new Listeners<[wire.JoinLeave]>();
  readonly #leaves = new Listeners<[wire.JoinLeave]>();
  #closed: TidegateError | null = null;

  /** @param settled called when `handedOver` may have become true */
  constructor(name: string, random: Random, deduplicator: Deduplicator, settled: () => void) {
    this.name = name;
    this.#delivery = new ChannelDelivery(name, deduplicator, {
      published: (event, data, meta) => this.#publications.call(event, data, meta),
      resync: (resync) => this.#resyncs.call(resync),
    });
    this.#subscription = new ChannelSubscription(name, random, this.#delivery, {
      ended: (end) => this.#ends.call(end),
      settled,
    });
  }

  get position(): wire.Position | null {
    return this.#delivery.position;
  }

  subscribe(options?: { position?: wire.Position }): Promise<Subscription> {
    return this.#subscription.subscribe(options);
  }

  unsubscribe(): void {
    this.#subscription.unsubscribe();
  }

  on(event: string, listener: (data: unknown, meta: PublicationMeta) => void): () => void {
    return this.#publications.add(event, listener);
  }

  onResync(listener: (resync: wire.Resync) => void): () => void {
    return this.#resyncs.add(listener);
  }

  onEnd(listener: (end: ChannelEnd) => void): () => void {
    return this.#ends.add(listener);
  }

  onJoin(listener: (join: wire.JoinLeave) => void): () => void {
    return this.#joins.add(listener);
  }

  onLeave(listener: (leave: wire.JoinLeave) => void): () => void {
    return this.#leaves.add(listener);
  }

  async history(options: { after?: number; limit?: number } = {}): Promise<History> {
    const { position } = this;
    const { publications, ...read } = await this.#request<wire.HistoryAck>("sync:history", {
      ...(position && { epoch: position.epoch }),
      ...options,
    });
    return { position: read.position, publications };
  }

  async presence(): Promise<Presence> {
    const presence = await this.#request<wire.PresenceAck>("sync:presence", {});
    return "members" in presence ? { members: presence.members } : { count: presence.count };
  }

  get handedOver(): boolean {
    return this.#delivery.handedOver;
  }

  connected(connection: Requester): void {
    this.#subscription.connected(connection);
  }

  disconnected(connection: Requester): void {
    this.#subscription.disconnected(connection);
  }

  /** Final. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#subscription.close(error);
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
    return this.#subscription.subscribed(connection, subscribed);
  }

  joined(connection: Requester, join: wire.JoinLeave): void {
    if (this.#delivery.isNew(connection, "join", join)) this.#joins.call(join);
  }

  left(connection: Requester, leave: wire.JoinLeave): void {
    if (this.#delivery.isNew(connection, "leave", leave)) this.#leaves.call(leave);
  }

  #request<T extends object>(event: string, more: object): Promise<{ ok: true } & T> {
    const { promise, resolve, reject } = Promise.withResolvers<{ ok: true } & T>();
    const answered = (ack: wire.Ack<T>): void => (ack.ok ? resolve(ack) : reject(new TidegateError(ack.error)));
    const { connection } = this.#delivery.source ?? this.#delivery.newest ?? {};
    if (connection) connection.request<T>(event, [{ channel: this.name, ...more }], answered);
    else reject(this.#closed ?? failure("not_connected", "not connected", true));
    return promise;
  }
}
