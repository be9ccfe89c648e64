import type * as wire from "../../../shared/protocol/wire.ts";
import type {
  Channel,
  ChannelEnd,
  History,
  Presence,
  PublicationMeta,
  SubscribeOptions,
  Subscription,
} from "../api/channel.ts";
import { abortedBy, onAbort } from "../api/abort.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { isOffset, isPosition } from "../api/positions.ts";
import { maxTimerMs } from "../calls/backoff.ts";
import { isWithinMs } from "../calls/call-input.ts";
import type { Requester } from "../calls/requester.ts";
import type { ChannelReader, FollowedChannel } from "./followed-channel.ts";
import { EventListeners, Listeners } from "./listeners.ts";

/** What a channel object needs of the client. */
export interface ChannelDirectory {
  /** The channel that all objects of this name share; made where there is none. */
  follow(name: string): FollowedChannel;
  /** Makes none. */
  followed(name: string): FollowedChannel | undefined;
  /** @throws {TidegateError} `not_connected`, or why the client was closed */
  requester(): Requester;
}

/**
 * A channel as one part of the application sees it, with listeners and a subscription of its own. It shares the channel
 * with the other objects of its name. The SDK calls the methods that {@link Channel} lacks.
 */
export class ClientChannel implements Channel, ChannelReader {
  readonly name: string;
  readonly #directory: ChannelDirectory;
  readonly #publications = new EventListeners<[data: unknown, meta: PublicationMeta]>();
  readonly #resyncs = new Listeners<[wire.Resync]>();
  readonly #ends = new Listeners<[ChannelEnd]>();
  readonly #joins = new Listeners<[wire.JoinLeave]>();
  readonly #leaves = new Listeners<[wire.JoinLeave]>();
  #listeners = 0;
  #subscription: Promise<Subscription> | null = null;
  /** After `unsubscribe()`: where it stopped. Hears nothing until the next `subscribe()`. */
  #stoppedAt: { position: wire.Position | null } | null = null;

  constructor(name: string, directory: ChannelDirectory) {
    this.name = name;
    this.#directory = directory;
  }

  get position(): wire.Position | null {
    if (this.#stoppedAt) return this.#stoppedAt.position;
    return this.#followed?.position ?? null;
  }

  subscribe(options: SubscribeOptions = {}): Promise<Subscription> {
    const refusal = refusalOf(options);
    if (refusal) return Promise.reject(refusal);
    const followed = this.#directory.follow(this.name);
    let subscription = this.#subscription;
    if (!subscription || !followed.isSubscribed(this)) {
      this.#stoppedAt = null;
      subscription = this.#subscription = followed.subscribe(this, options.position ?? null);
    }
    const stopWaiting = this.#giveUp(followed, options);
    // An application that ignores the promise learns of a refusal from onEnd.
    subscription.then(stopWaiting, stopWaiting);
    return subscription;
  }

  unsubscribe(): void {
    this.#stop(failure("unsubscribed", `unsubscribed from ${this.name}`));
  }

  on(event: string, listener: (data: unknown, meta: PublicationMeta) => void): () => void {
    return this.#added(this.#publications.add(event, listener));
  }

  onResync(listener: (resync: wire.Resync) => void): () => void {
    return this.#added(this.#resyncs.add(listener));
  }

  onEnd(listener: (end: ChannelEnd) => void): () => void {
    return this.#added(this.#ends.add(listener));
  }

  onJoin(listener: (join: wire.JoinLeave) => void): () => void {
    return this.#added(this.#joins.add(listener));
  }

  onLeave(listener: (leave: wire.JoinLeave) => void): () => void {
    return this.#added(this.#leaves.add(listener));
  }

  async history(options: { after?: number; limit?: number } = {}): Promise<History> {
    const { after = 0, limit = 1 } = options;
    if (!isOffset(after) || !isOffset(limit)) throw invalid("after and limit must be whole numbers");
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

  published(event: string, data: unknown, meta: PublicationMeta): void {
    this.#publications.call(event, data, meta);
  }

  resync(resync: wire.Resync): void {
    this.#resyncs.call(resync);
  }

  ended(end: ChannelEnd): void {
    this.#ends.call(end);
    this.#ignoreUnheard();
  }

  joined(join: wire.JoinLeave): void {
    this.#joins.call(join);
  }

  left(leave: wire.JoinLeave): void {
    this.#leaves.call(leave);
  }

  get #followed(): FollowedChannel | undefined {
    return this.#directory.followed(this.name);
  }

  /** @param error for a `subscribe()` that waits */
  #stop(error: TidegateError): void {
    if (this.#stoppedAt) return;
    const followed = this.#followed;
    this.#stoppedAt = { position: followed?.position ?? null };
    followed?.leave(this, error, this.#subscription !== null);
  }

  /** Unsubscribes when the time is up or the signal aborts. @returns a function that prevents it */
  #giveUp(followed: FollowedChannel, { withinMs, signal }: SubscribeOptions): () => void {
    const stopListening = onAbort(signal, (error) => this.#stop(error));
    const timer = withinMs !== undefined && setTimeout(() => this.#stop(followed.late), Math.min(withinMs, maxTimerMs));
    return () => {
      stopListening();
      if (timer !== false) clearTimeout(timer);
    };
  }

  /** Counts a listener that was added, until the function is called that removes it. */
  #added(remove: () => void): () => void {
    this.#listeners++;
    if (!this.#stoppedAt) this.#directory.follow(this.name).listen(this);
    let isAdded = true;
    return () => {
      if (!isAdded) return;
      isAdded = false;
      remove();
      this.#listeners--;
      this.#ignoreUnheard();
    };
  }

  #ignoreUnheard(): void {
    if (this.#listeners === 0) this.#followed?.ignore(this);
  }

  #request<T extends object>(event: string, more: object): Promise<{ ok: true } & T> {
    return new Promise((resolve, reject) => {
      const requester = this.#followed?.connection ?? this.#directory.requester();
      requester.request<T>(event, [{ channel: this.name, ...more }], (ack) => {
        if (ack.ok) resolve(ack);
        else reject(new TidegateError(ack.error));
      });
    });
  }
}

/** Why these options cannot be used. */
function refusalOf({ position, withinMs, signal }: SubscribeOptions): TidegateError | undefined {
  if (position !== undefined && !isPosition(position)) return invalid("position must be { epoch, offset }");
  if (withinMs !== undefined && !isWithinMs(withinMs)) return invalid("withinMs must be a number above 0");
  return signal?.aborted ? abortedBy(signal) : undefined;
}

function invalid(message: string): TidegateError {
  return failure("invalid_request", message);
}
