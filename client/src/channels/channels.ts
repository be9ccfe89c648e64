import { isChannel } from "../../../shared/protocol/grammar.ts";
import type { JoinLeave, Resync, Revoked, Subscribed } from "../../../shared/protocol/wire.ts";
import type { Channel, PublicationMeta } from "../api/channel.ts";
import { ClientChannel } from "./client-channel.ts";
import type { GatewayConnection } from "../connection/connection.ts";
import type { Deduplicator } from "./deduplicator.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import { Listeners } from "./listeners.ts";
import type { Random } from "../connection/timing.ts";

/** All channels of a client. Routes the gateway's events to them. */
export class Channels {
  readonly #random: Random;
  readonly #deduplicator: Deduplicator;
  readonly #onHandedOver: () => void;
  readonly #byName = new Map<string, ClientChannel>();
  readonly #subscribedListeners = new Listeners<[Channel]>();
  /** Newest last; two during a move. */
  #connections: GatewayConnection[] = [];
  #closed: TidegateError | null = null;

  /** @param onHandedOver called during a move, once no channel needs the earlier connection */
  constructor(random: Random, deduplicator: Deduplicator, onHandedOver: () => void) {
    this.#random = random;
    this.#deduplicator = deduplicator;
    this.#onHandedOver = onHandedOver;
  }

  /** The same object for the same name. @throws {TidegateError} `invalid_request`, if `name` is not a valid channel name */
  get(name: string): ClientChannel {
    const known = this.#byName.get(name);
    if (known) return known;
    if (!isChannel(name)) throw failure("invalid_request", `invalid channel name: ${name}`);
    const channel = new ClientChannel(name, this.#random, this.#deduplicator, () => this.checkHandedOver());
    this.#byName.set(name, channel);
    if (this.#closed) channel.close(this.#closed);
    else for (const connection of this.#connections) channel.connected(connection);
    return channel;
  }

  grantRenewed(name: string, grant: string): void {
    this.#byName.get(name)?.grantRenewed(grant);
  }

  onSubscribed(listener: (channel: Channel) => void): () => void {
    return this.#subscribedListeners.add(listener);
  }

  /** During a move the earlier connection stays in use until the channels are handed over to this one. */
  connected(connection: GatewayConnection): void {
    this.#connections.push(connection);
    for (const channel of this.#byName.values()) channel.connected(connection);
  }

  disconnected(connection: GatewayConnection): void {
    this.#connections = this.#connections.filter((other) => other !== connection);
    for (const channel of this.#byName.values()) channel.disconnected(connection);
  }

  /** Final. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#connections = [];
    for (const channel of this.#byName.values()) channel.close(error);
  }

  deliver(connection: GatewayConnection, event: string, data: unknown, meta: PublicationMeta): void {
    this.#byName.get(meta.channel)?.deliver(connection, event, data, meta);
    this.checkHandedOver();
  }

  /** The gateway's own events. Ignores those of later versions. */
  receive(connection: GatewayConnection, event: string, data: unknown): void {
    if (typeof data !== "object" || data === null) return;
    if (event === "sync:subscribed") return this.#subscribed(connection, data as Subscribed);
    const channel = this.#byName.get((data as { channel: string }).channel);
    if (event === "sync:resync") channel?.resync(connection, data as Resync);
    else if (event === "sync:revoked") channel?.revoked(connection, data as Revoked);
    else if (event === "sync:join") channel?.joined(connection, data as JoinLeave);
    else if (event === "sync:leave") channel?.left(connection, data as JoinLeave);
    this.checkHandedOver();
  }

  checkHandedOver(): void {
    if (this.#connections.length < 2) return;
    for (const channel of this.#byName.values()) if (!channel.handedOver) return;
    this.#onHandedOver();
  }

  #subscribed(connection: GatewayConnection, subscribed: Subscribed): void {
    const channel = this.get(subscribed.channel);
    if (channel.subscribed(connection, subscribed)) this.#subscribedListeners.call(channel);
  }
}
