import { isChannel } from "../../../shared/protocol/grammar.ts";
import type { JoinLeave, Resync, Revoked, Subscribed } from "../../../shared/protocol/wire.ts";
import type { Channel, PublicationMeta } from "../api/channel.ts";
import { ClientChannel } from "./client-channel.ts";
import type { Requester } from "../calls/requester.ts";
import type { Deduplicator } from "./deduplicator.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import { Listeners } from "./listeners.ts";
import type { Random } from "../calls/backoff.ts";

/** All channels of a client. Routes the gateway's events to them. */
export class Channels {
  readonly #random: Random;
  readonly #deduplicator: Deduplicator;
  readonly #onSettled: () => void;
  readonly #byName = new Map<string, ClientChannel>();
  readonly #subscribedListeners = new Listeners<[Channel]>();
  /** Newest last; two during a move. */
  #connections: Requester[] = [];
  #closed: TidegateError | null = null;

  /** @param onSettled called when {@link handedOver} may have become true */
  constructor(random: Random, deduplicator: Deduplicator, onSettled: () => void) {
    this.#random = random;
    this.#deduplicator = deduplicator;
    this.#onSettled = onSettled;
  }

  /** The same object for the same name. @throws {TidegateError} `invalid_request`, if `name` is not a valid channel name */
  get(name: string): ClientChannel {
    const known = this.#byName.get(name);
    if (known) return known;
    if (!isChannel(name)) throw failure("invalid_request", `invalid channel name: ${name}`);
    const channel = new ClientChannel(name, this.#random, this.#deduplicator, this.#onSettled);
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
  connected(connection: Requester): void {
    this.#connections.push(connection);
    for (const channel of this.#byName.values()) channel.connected(connection);
  }

  disconnected(connection: Requester): void {
    this.#connections = this.#connections.filter((other) => other !== connection);
    for (const channel of this.#byName.values()) channel.disconnected(connection);
  }

  /** Final. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#connections = [];
    for (const channel of this.#byName.values()) channel.close(error);
  }

  deliver(connection: Requester, event: string, data: unknown, meta: PublicationMeta): void {
    this.#byName.get(meta.channel)?.deliver(connection, event, data, meta);
  }

  /** The gateway's own events. Ignores those of later versions. */
  receive(connection: Requester, event: string, data: unknown): void {
    if (typeof data !== "object" || data === null) return;
    if (event === "sync:subscribed") return this.#subscribed(connection, data as Subscribed);
    const channel = this.#byName.get((data as { channel: string }).channel);
    if (event === "sync:resync") channel?.resync(connection, data as Resync);
    else if (event === "sync:revoked") channel?.revoked(connection, data as Revoked);
    else if (event === "sync:join") channel?.joined(connection, data as JoinLeave);
    else if (event === "sync:leave") channel?.left(connection, data as JoinLeave);
  }

  /** No channel needs a connection before the newest one. */
  get handedOver(): boolean {
    for (const channel of this.#byName.values()) if (!channel.handedOver) return false;
    return true;
  }

  #subscribed(connection: Requester, subscribed: Subscribed): void {
    const channel = this.get(subscribed.channel);
    if (channel.subscribed(connection, subscribed)) this.#subscribedListeners.call(channel);
  }
}
