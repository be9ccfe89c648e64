import { isChannel } from "../../../shared/protocol/grammar.ts";
import type { JoinLeave, Resync, Revoked, Subscribed } from "../../../shared/protocol/wire.ts";
import type { Channel, PublicationMeta } from "../api/channel.ts";
import { type ChannelDirectory, ClientChannel } from "./client-channel.ts";
import { FollowedChannel } from "./followed-channel.ts";
import type { Requester } from "../calls/requester.ts";
import type { Deduplicator } from "./deduplicator.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import { Listeners } from "./listeners.ts";
import type { Random } from "../calls/backoff.ts";

/** Channels that nothing uses are kept for their grants, with which the next subscribe needs no hook. */
const maxUnused = 100;

/** All channels of a client. Routes the gateway's events to them. */
export class Channels implements ChannelDirectory {
  readonly #random: Random;
  readonly #deduplicator: Deduplicator;
  readonly #onSettled: () => void;
  readonly #byName = new Map<string, FollowedChannel>();
  /** The one that became unused last comes last. */
  readonly #unused = new Set<FollowedChannel>();
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

  /** @throws {TidegateError} `invalid_request`, if `name` is not a valid channel name */
  open(name: string): ClientChannel {
    if (!isChannel(name)) throw failure("invalid_request", `invalid channel name: ${name}`);
    return new ClientChannel(name, this);
  }

  followed(name: string): FollowedChannel | undefined {
    return this.#byName.get(name);
  }

  follow(name: string): FollowedChannel {
    const known = this.#byName.get(name);
    if (known) return known;
    const channel = new FollowedChannel(name, this.#random, this.#deduplicator, () => {
      this.#keepOrRelease(channel);
      this.#onSettled();
    });
    if (this.#closed) channel.close(this.#closed);
    else this.#byName.set(name, channel);
    for (const connection of this.#connections) channel.connected(connection);
    return channel;
  }

  requester(): Requester {
    const newest = this.#connections.at(-1);
    if (!newest) throw this.#closed ?? failure("not_connected", "not connected", true);
    return newest;
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
    for (const channel of this.#byName.values()) {
      channel.disconnected(connection);
      this.#keepOrRelease(channel);
    }
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
    const channel = this.open(subscribed.channel);
    const isNew = this.follow(channel.name).subscribed(connection, subscribed);
    if (isNew) this.#subscribedListeners.call(channel);
  }

  /** Forgets the channels that became unused first, beyond a hundred. */
  #keepOrRelease(channel: FollowedChannel): void {
    this.#unused.delete(channel);
    if (!channel.unused) return;
    this.#unused.add(channel);
    const [oldest] = this.#unused;
    if (!oldest || this.#unused.size <= maxUnused) return;
    this.#unused.delete(oldest);
    // It may have been used again since.
    if (oldest.unused) this.#byName.delete(oldest.name);
  }
}
