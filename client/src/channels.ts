import { isChannel } from "../../shared/protocol/grammar.ts";
import type { JoinLeave, Resync, Revoked, Subscribed } from "../../shared/protocol/wire.ts";
import type { Channel, PublicationMeta } from "./channel.ts";
import { ClientChannel } from "./client-channel.ts";
import type { GatewayConnection } from "./connection.ts";
import { failure, type TidegateError } from "./errors.ts";
import { Listeners } from "./listeners.ts";
import type { Random } from "./timing.ts";

/** The channels that one client has spoken of, and what comes for them. */
export class Channels {
  readonly #random: Random;
  readonly #byName = new Map<string, ClientChannel>();
  readonly #subscribedListeners = new Listeners<[Channel]>();
  #connection: GatewayConnection | null = null;
  #closed: TidegateError | null = null;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The same for the same name. @throws {TidegateError} `invalid_request`, where `name` is no channel's name */
  get(name: string): ClientChannel {
    const known = this.#byName.get(name);
    if (known) return known;
    if (!isChannel(name)) throw failure("invalid_request", `not a channel's name: ${name}`);
    const channel = new ClientChannel(name, this.#random);
    this.#byName.set(name, channel);
    if (this.#closed) channel.close(this.#closed);
    else if (this.#connection) channel.connected(this.#connection);
    return channel;
  }

  grantRenewed(name: string, grant: string): void {
    this.#byName.get(name)?.grantRenewed(grant);
  }

  onSubscribed(listener: (channel: Channel) => void): () => void {
    return this.#subscribedListeners.add(listener);
  }

  connected(connection: GatewayConnection): void {
    this.#connection = connection;
    for (const channel of this.#byName.values()) channel.connected(connection);
  }

  disconnected(): void {
    this.#connection = null;
    for (const channel of this.#byName.values()) channel.disconnected();
  }

  /** For good. */
  close(error: TidegateError): void {
    this.#closed = error;
    for (const channel of this.#byName.values()) channel.close(error);
  }

  deliver(event: string, data: unknown, meta: PublicationMeta): void {
    this.#byName.get(meta.channel)?.deliver(event, data, meta);
  }

  /** The gateway's own events; those of later versions are passed over. */
  receive(event: string, word: unknown): void {
    if (typeof word !== "object" || word === null) return;
    if (event === "sync:subscribed") return this.#subscribed(word as Subscribed);
    const channel = this.#byName.get((word as { channel: string }).channel);
    if (event === "sync:resync") channel?.resync(word as Resync);
    else if (event === "sync:revoked") channel?.revoked(word as Revoked);
    else if (event === "sync:join") channel?.joined(word as JoinLeave);
    else if (event === "sync:leave") channel?.left(word as JoinLeave);
  }

  #subscribed(subscribed: Subscribed): void {
    const channel = this.get(subscribed.channel);
    if (channel.subscribed(subscribed)) this.#subscribedListeners.call(channel);
  }
}
