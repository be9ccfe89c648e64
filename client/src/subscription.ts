import type { Ack, HistoryAck, Position, Resync, Revoked, SubscribeAck } from "../../shared/protocol/wire.ts";
import type { Channel, ChannelEnd, History, PublicationMeta, Subscription } from "./channel.ts";
import type { Connection } from "./connection.ts";
import { TidegateError } from "./errors.ts";
import { EventListeners, Listeners } from "./listeners.ts";
import { advance, replayStart } from "./position.ts";
import { backoffDelayMs, type Random } from "./timing.ts";

/** What the application asked for with one `subscribe()`. */
interface Wish {
  readonly promise: Promise<Subscription>;
  readonly resolve: (subscription: Subscription) => void;
  readonly reject: (error: TidegateError) => void;
  answered: boolean;
}

/** What the gateway holds for us on one connection. At most one request of the channel is on its way. */
interface Hold {
  readonly connection: Connection;
  /** The wish that the gateway last granted on this connection. */
  granted: Wish | null;
  busy: boolean;
  refusals: number;
  retryTimer: ReturnType<typeof setTimeout> | undefined;
}

/**
 * Brings what the gateway holds in line with what the application wishes, one request after the other, so that
 * neither a quick change of mind nor a reconnect can leave the two apart. The client calls all that {@link Channel}
 * does not have.
 */
export class ChannelSubscription implements Channel {
  readonly name: string;
  readonly #random: Random;
  readonly #listeners = new EventListeners<[data: unknown, meta: PublicationMeta]>();
  readonly #resyncListeners = new Listeners<[Resync]>();
  readonly #endListeners = new Listeners<[ChannelEnd]>();
  #position: Position | null = null;
  #wish: Wish | null = null;
  #hold: Hold | null = null;
  #closed: TidegateError | null = null;

  constructor(name: string, random: Random) {
    this.name = name;
    this.#random = random;
  }

  get position(): Position | null {
    return this.#position;
  }

  subscribe(options: { position?: Position } = {}): Promise<Subscription> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#wish) return this.#wish.promise;
    const { promise, resolve, reject } = Promise.withResolvers<Subscription>();
    // Who does not look at the promise hears of a refusal by onEnd.
    promise.catch(() => undefined);
    this.#position = options.position ?? null;
    this.#wish = { promise, resolve, reject, answered: false };
    this.#reconcile();
    return promise;
  }

  unsubscribe(): void {
    this.#drop(new TidegateError({ code: "unsubscribed", message: `${this.name} was left`, retryable: false }));
    this.#reconcile();
  }

  on(event: string, listener: (data: unknown, meta: PublicationMeta) => void): () => void {
    return this.#listeners.add(event, listener);
  }

  onResync(listener: (resync: Resync) => void): () => void {
    return this.#resyncListeners.add(listener);
  }

  onEnd(listener: (end: ChannelEnd) => void): () => void {
    return this.#endListeners.add(listener);
  }

  history(options: { after?: number; limit?: number } = {}): Promise<History> {
    const connection = this.#hold?.connection;
    if (!connection) {
      const error = { code: "not_connected", message: "there is no connection", retryable: true };
      return Promise.reject(this.#closed ?? new TidegateError(error));
    }
    const request = { channel: this.name, ...(this.#position && { epoch: this.#position.epoch }), ...options };
    const { promise, resolve, reject } = Promise.withResolvers<History>();
    connection.request<HistoryAck>("sync:history", [request], (ack) => {
      if (ack.ok) resolve({ position: ack.position, publications: ack.publications });
      else reject(new TidegateError(ack.error));
    });
    return promise;
  }

  /** There is a new connection, on which the gateway holds nothing yet. */
  connected(connection: Connection): void {
    this.#hold = { connection, granted: null, busy: false, refusals: 0, retryTimer: undefined };
    this.#reconcile();
  }

  disconnected(): void {
    clearTimeout(this.#hold?.retryTimer);
    this.#hold = null;
  }

  /** For good: nothing is subscribed any more. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.disconnected();
    this.#drop(error);
  }

  deliver(event: string, data: unknown, meta: PublicationMeta): void {
    if (!this.#live) return;
    if ("offset" in meta && this.#position) {
      const next = advance(this.#position, meta.offset);
      if (!next) return;
      this.#position = next;
    }
    this.#listeners.call(event, data, meta);
  }

  resync(resync: Resync): void {
    if (!this.#live) return;
    this.#position = resync.position;
    this.#resyncListeners.call(resync);
  }

  revoked({ reason }: Revoked): void {
    if (!this.#hold?.granted) return;
    const wished = this.#live;
    this.#hold.granted = null;
    if (wished) this.#end("revoked", reason, new TidegateError({ code: "revoked", message: reason, retryable: false }));
  }

  /** Whether what the gateway now sends belongs to what the application now wishes. */
  get #live(): boolean {
    return this.#wish !== null && this.#hold?.granted === this.#wish;
  }

  #reconcile(): void {
    const hold = this.#hold;
    if (!hold || hold.busy) return;
    clearTimeout(hold.retryTimer);
    hold.retryTimer = undefined;
    if (hold.granted === this.#wish) return;
    if (hold.granted) {
      // Where the answer is a refusal, there was nothing left to leave.
      this.#request(hold, "sync:unsubscribe", {}, () => (hold.granted = null));
    } else if (this.#wish) {
      const wish = this.#wish;
      this.#request<SubscribeAck>(hold, "sync:subscribe", this.#position && { position: this.#position }, (ack) => {
        if (!ack.ok) return this.#refused(hold, wish, new TidegateError(ack.error));
        hold.granted = wish;
        hold.refusals = 0;
        if (this.#wish === wish) this.#accept(wish, ack);
      });
    }
  }

  #request<T extends object>(hold: Hold, event: string, more: object | null, answered: (ack: Ack<T>) => void): void {
    hold.busy = true;
    hold.connection.request<T>(event, [{ channel: this.name, ...more }], (ack) => {
      if (this.#hold !== hold) return;
      hold.busy = false;
      answered(ack);
      if (hold.retryTimer === undefined) this.#reconcile();
    });
  }

  #accept(wish: Wish, ack: SubscribeAck): void {
    this.#position = replayStart(this.#position, ack);
    for (const { event, data, ...meta } of ack.publications) this.deliver(event, data, { channel: this.name, ...meta });
    // A listener may have changed the application's mind.
    if (this.#wish !== wish) return;
    const { recovered, position, reason } = ack;
    this.#position = position;
    if (!wish.answered) {
      wish.answered = true;
      wish.resolve({ recovered, position, ...(reason && { reason }) });
    } else if (!recovered && reason) {
      this.#resyncListeners.call({ channel: this.name, position, reason });
    }
  }

  #refused(hold: Hold, wish: Wish, error: TidegateError): void {
    if (this.#wish !== wish) return;
    if (!error.retryable) return this.#end(error.code, error.message, error);
    const delayMs = (error.retryAfterMs ?? 0) + backoffDelayMs(hold.refusals++, this.#random);
    hold.retryTimer = setTimeout(() => this.#reconcile(), delayMs);
  }

  #end(code: string, reason: string, error: TidegateError): void {
    this.#drop(error);
    this.#endListeners.call({ channel: this.name, code, reason });
  }

  #drop(error: TidegateError): void {
    const wish = this.#wish;
    this.#wish = null;
    if (wish && !wish.answered) wish.reject(error);
  }
}
