import type {
  Ack,
  HistoryAck,
  JoinLeave,
  Position,
  PresenceAck,
  Resync,
  Revoked,
  Subscribed,
} from "../../../shared/protocol/wire.ts";
import type { Channel, ChannelEnd, History, Presence, PublicationMeta, Subscription } from "../api/channel.ts";
import type { GatewayConnection } from "../connection/connection.ts";
import type { Doubles } from "./doubles.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { EventListeners, Listeners } from "./listeners.ts";
import { ChannelSubscription } from "./subscription.ts";
import type { Random } from "../connection/timing.ts";

/** A channel as the application has it. The client calls all that {@link Channel} does not have. */
export class ClientChannel implements Channel {
  readonly name: string;
  readonly #subscription: ChannelSubscription;
  readonly #publications = new EventListeners<[data: unknown, meta: PublicationMeta]>();
  readonly #resyncs = new Listeners<[Resync]>();
  readonly #ends = new Listeners<[ChannelEnd]>();
  readonly #joins = new Listeners<[JoinLeave]>();
  readonly #leaves = new Listeners<[JoinLeave]>();
  #closed: TidegateError | null = null;

  /** @param settled told whenever `handedOver` may have become true. */
  constructor(name: string, random: Random, doubles: Doubles, settled: () => void) {
    this.name = name;
    this.#subscription = new ChannelSubscription(name, random, doubles, {
      published: (event, data, meta) => this.#publications.call(event, data, meta),
      resync: (resync) => this.#resyncs.call(resync),
      ended: (end) => this.#ends.call(end),
      settled,
    });
  }

  get position(): Position | null {
    return this.#subscription.position;
  }

  subscribe(options?: { position?: Position }): Promise<Subscription> {
    return this.#subscription.subscribe(options);
  }

  unsubscribe(): void {
    this.#subscription.unsubscribe();
  }

  on(event: string, listener: (data: unknown, meta: PublicationMeta) => void): () => void {
    return this.#publications.add(event, listener);
  }

  onResync(listener: (resync: Resync) => void): () => void {
    return this.#resyncs.add(listener);
  }

  onEnd(listener: (end: ChannelEnd) => void): () => void {
    return this.#ends.add(listener);
  }

  onJoin(listener: (join: JoinLeave) => void): () => void {
    return this.#joins.add(listener);
  }

  onLeave(listener: (leave: JoinLeave) => void): () => void {
    return this.#leaves.add(listener);
  }

  async history(options: { after?: number; limit?: number } = {}): Promise<History> {
    const { position } = this;
    const { publications, ...read } = await this.#ask<HistoryAck>("sync:history", {
      ...(position && { epoch: position.epoch }),
      ...options,
    });
    return { position: read.position, publications };
  }

  async presence(): Promise<Presence> {
    const presence = await this.#ask<PresenceAck>("sync:presence", {});
    return "members" in presence ? { members: presence.members } : { count: presence.count };
  }

  /** As {@link ChannelSubscription}. */
  get handedOver(): boolean {
    return this.#subscription.handedOver;
  }

  connected(connection: GatewayConnection): void {
    this.#subscription.connected(connection);
  }

  disconnected(connection: GatewayConnection): void {
    this.#subscription.disconnected(connection);
  }

  /** For good: nothing is subscribed any more. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#subscription.close(error);
  }

  deliver(connection: GatewayConnection, event: string, data: unknown, meta: PublicationMeta): void {
    this.#subscription.deliver(connection, event, data, meta);
  }

  resync(connection: GatewayConnection, resync: Resync): void {
    this.#subscription.resync(connection, resync);
  }

  grantRenewed(grant: string): void {
    this.#subscription.grantRenewed(grant);
  }

  revoked(connection: GatewayConnection, revoked: Revoked): void {
    this.#subscription.revoked(connection, revoked);
  }

  /** True where the server's subscription is news to the application. */
  subscribed(connection: GatewayConnection, subscribed: Subscribed): boolean {
    return this.#subscription.subscribed(connection, subscribed);
  }

  joined(connection: GatewayConnection, join: JoinLeave): void {
    if (this.#subscription.hears(connection, "join", join)) this.#joins.call(join);
  }

  left(connection: GatewayConnection, leave: JoinLeave): void {
    if (this.#subscription.hears(connection, "leave", leave)) this.#leaves.call(leave);
  }

  #ask<T extends object>(event: string, more: object): Promise<{ ok: true } & T> {
    const { promise, resolve, reject } = Promise.withResolvers<{ ok: true } & T>();
    const answered = (ack: Ack<T>): void => (ack.ok ? resolve(ack) : reject(new TidegateError(ack.error)));
    const { connection } = this.#subscription;
    if (connection) connection.request<T>(event, [{ channel: this.name, ...more }], answered);
    else reject(this.#closed ?? failure("not_connected", "there is no connection", true));
    return promise;
  }
}
