import { isChannel } from "../../../shared/protocol/grammar.ts";
import type { JoinLeave, Resync, Revoked, Subscribed } from "../../../shared/protocol/wire.ts";
import type { Channel, PublicationMeta } from "../api/channel.ts";
import { ClientChannel } from "./client-channel.ts";
import type { GatewayConnection } from "../connection/connection.ts";
import type { Doubles } from "./doubles.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import { Listeners } from "./listeners.ts";
import type { Random } from "../connection/timing.ts";

/** The channels that one client has spoken of, and what comes for them. */
export class Channels {
  readonly #random: Random;
  readonly #doubles: Doubles;
  readonly #onHandedOver: () => void;
  readonly #byName = new Map<string, ClientChannel>();
  readonly #subscribedListeners = new Listeners<[Channel]>();
  /** The newest last; two while the client moves. */
  #connections: GatewayConnection[] = [];
  #closed: TidegateError | null = null;

  /** @param onHandedOver called while there are two connections, once nothing is needed of the earlier one any more */
  constructor(random: Random, doubles: Doubles, onHandedOver: () => void) {
    this.#random = random;
    this.#doubles = doubles;
    this.#onHandedOver = onHandedOver;
  }

  /** The same for the same name. @throws {TidegateError} `invalid_request`, where `name` is no channel's name */
  get(name: string): ClientChannel {
    const known = this.#byName.get(name);
    if (known) return known;
    if (!isChannel(name)) throw failure("invalid_request", `not a channel's name: ${name}`);
    const channel = new ClientChannel(name, this.#random, this.#doubles, () => this.checkHandOver());
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

  /** Where there is a connection already, channels are handed over to the new one. */
  connected(connection: GatewayConnection): void {
    this.#connections.push(connection);
    for (const channel of this.#byName.values()) channel.connected(connection);
  }

  disconnected(connection: GatewayConnection): void {
    this.#connections = this.#connections.filter((other) => other !== connection);
    for (const channel of this.#byName.values()) channel.disconnected(connection);
  }

  /** For good. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#connections = [];
    for (const channel of this.#byName.values()) channel.close(error);
  }

  deliver(connection: GatewayConnection, event: string, data: unknown, meta: PublicationMeta): void {
    this.#byName.get(meta.channel)?.deliver(connection, event, data, meta);
    this.checkHandOver();
  }

  /** The gateway's own events; those of later versions are passed over. */
  receive(connection: GatewayConnection, event: string, word: unknown): void {
    if (typeof word !== "object" || word === null) return;
    if (event === "sync:subscribed") return this.#subscribed(connection, word as Subscribed);
    const channel = this.#byName.get((word as { channel: string }).channel);
    if (event === "sync:resync") channel?.resync(connection, word as Resync);
    else if (event === "sync:revoked") channel?.revoked(connection, word as Revoked);
    else if (event === "sync:join") channel?.joined(connection, word as JoinLeave);
    else if (event === "sync:leave") channel?.left(connection, word as JoinLeave);
    this.checkHandOver();
  }

  /** Tells where all channels are handed over. */
  checkHandOver(): void {
    if (this.#connections.length < 2) return;
    for (const channel of this.#byName.values()) if (!channel.handedOver) return;
    this.#onHandedOver();
  }

  #subscribed(connection: GatewayConnection, subscribed: Subscribed): void {
    const channel = this.get(subscribed.channel);
    if (channel.subscribed(connection, subscribed)) this.#subscribedListeners.call(channel);
  }
}
