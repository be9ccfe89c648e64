import type { Ack, Position, Resync, Revoked, SubscribeAck, Subscribed } from "../../shared/protocol/wire.ts";
import type { ChannelEnd, PublicationMeta, Subscription } from "./channel.ts";
import type { GatewayConnection } from "./connection.ts";
import { failure, TidegateError } from "./errors.ts";
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
  readonly connection: GatewayConnection;
  /** The wish that the gateway last granted on this connection. */
  granted: Wish | null;
  busy: boolean;
  refusals: number;
  retryTimer: ReturnType<typeof setTimeout> | undefined;
}

/** Who hears what comes of a subscription. */
export interface SubscriptionListener {
  published(event: string, data: unknown, meta: PublicationMeta): void;
  resync(resync: Resync): void;
  ended(end: ChannelEnd): void;
}

/**
 * Brings what the gateway holds in line with what the application wishes, one request after the other, so that
 * neither a quick change of mind nor a reconnect can leave the two apart. A subscription that the server makes becomes
 * a wish like any other.
 */
export class ChannelSubscription {
  readonly name: string;
  readonly #random: Random;
  readonly #listener: SubscriptionListener;
  #position: Position | null = null;
  /** Proof of what was allowed: with it nobody is asked again. */
  #grant: string | null = null;
  #wish: Wish | null = null;
  #hold: Hold | null = null;
  #closed: TidegateError | null = null;

  constructor(name: string, random: Random, listener: SubscriptionListener) {
    this.name = name;
    this.#random = random;
    this.#listener = listener;
  }

  /** Whether what the gateway now sends belongs to what the application now wishes. */
  get live(): boolean {
    return this.#wish !== null && this.#hold?.granted === this.#wish;
  }

  get position(): Position | null {
    return this.#position;
  }

  subscribe(options: { position?: Position } = {}): Promise<Subscription> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.#wish) return this.#wish.promise;
    this.#position = options.position ?? null;
    const wish = newWish();
    this.#wish = wish;
    this.#reconcile();
    return wish.promise;
  }

  unsubscribe(): void {
    this.#drop(failure("unsubscribed", `${this.name} was left`));
    this.#reconcile();
  }

  /** There is a new connection, on which the gateway holds nothing yet. */
  connected(connection: GatewayConnection): void {
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
    if (!this.live) return;
    if ("offset" in meta && this.#position) {
      const next = advance(this.#position, meta.offset);
      if (!next) return;
      this.#position = next;
    }
    this.#listener.published(event, data, meta);
  }

  resync(resync: Resync): void {
    if (!this.live) return;
    this.#position = resync.position;
    this.#listener.resync(resync);
  }

  /** The server subscribed this session. True where the channel was not the application's wish before. */
  subscribed({ position, grant }: Subscribed): boolean {
    const hold = this.#hold;
    if (!hold) return false;
    if (typeof grant === "string") this.#grant = grant;
    // A request on its way reaches the gateway after this: its answer is what holds.
    if (hold.busy) return false;
    if (this.#wish) {
      // Asked for and not held yet: with the grant it may be, from the position that was asked for.
      this.#reconcile();
      return false;
    }
    const wish = newWish();
    wish.answered = true;
    wish.resolve({ recovered: false, position });
    this.#wish = wish;
    this.#position = position;
    hold.granted = wish;
    return true;
  }

  /** For the next time it is subscribed. */
  grantRenewed(grant: string): void {
    if (this.#grant !== null) this.#grant = grant;
  }

  revoked({ reason }: Revoked): void {
    this.#grant = null;
    if (!this.#hold?.granted) return;
    const wished = this.live;
    this.#hold.granted = null;
    if (wished) this.#end("revoked", reason, failure("revoked", reason));
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
      const presented = {
        ...(this.#position && { position: this.#position }),
        ...(this.#grant !== null && { grant: this.#grant }),
      };
      this.#request<SubscribeAck>(hold, "sync:subscribe", presented, (ack) => {
        if (!ack.ok) return this.#refused(hold, wish, new TidegateError(ack.error));
        if (ack.grant !== undefined) this.#grant = ack.grant;
        hold.granted = wish;
        hold.refusals = 0;
        if (this.#wish === wish) this.#accept(wish, ack);
      });
    }
  }

  #request<T extends object>(hold: Hold, event: string, more: object, answered: (ack: Ack<T>) => void): void {
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
      this.#listener.resync({ channel: this.name, position, reason });
    }
  }

  #refused(hold: Hold, wish: Wish, error: TidegateError): void {
    if (error.code === "channel_not_allowed") this.#grant = null;
    if (this.#wish !== wish) return;
    if (!error.retryable) return this.#end(error.code, error.message, error);
    const delayMs = (error.retryAfterMs ?? 0) + backoffDelayMs(hold.refusals++, this.#random);
    hold.retryTimer = setTimeout(() => this.#reconcile(), delayMs);
  }

  #end(code: string, reason: string, error: TidegateError): void {
    this.#drop(error);
    this.#listener.ended({ channel: this.name, code, reason });
  }

  #drop(error: TidegateError): void {
    const wish = this.#wish;
    this.#wish = null;
    if (wish && !wish.answered) wish.reject(error);
  }
}

function newWish(): Wish {
  const { promise, resolve, reject } = Promise.withResolvers<Subscription>();
  // Who does not look at the promise hears of a refusal by onEnd.
  promise.catch(() => undefined);
  return { promise, resolve, reject, answered: false };
}
