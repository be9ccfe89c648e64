import type {
  Ack,
  JoinLeave,
  Position,
  Resync,
  Revoked,
  SubscribeAck,
  Subscribed,
} from "../../../shared/protocol/wire.ts";
import type { ChannelEnd, PublicationMeta, Subscription } from "../api/channel.ts";
import type { GatewayConnection } from "../connection/connection.ts";
import type { Doubles } from "./doubles.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { Hold } from "./hold.ts";
import { advance, bridges, furthest, replayStart, sameHistory } from "./position.ts";
import { backoffDelayMs, type Random } from "../connection/timing.ts";
import { newWish, type Wish } from "./wish.ts";

/** Who hears what comes of a subscription. */
export interface SubscriptionListener {
  published(event: string, data: unknown, meta: PublicationMeta): void;
  resync(resync: Resync): void;
  ended(end: ChannelEnd): void;
  /** Perhaps `handedOver` has become true. */
  settled(): void;
}

/**
 * Brings what the gateway holds in line with what the application wishes, one request after the other, so that
 * neither a quick change of mind nor a reconnect can leave the two apart. A subscription that the server makes becomes
 * a wish like any other.
 *
 * While the client moves there are two connections. What is asked is asked on the newer one. Publications count from
 * both, where the connection's stream bridges the position: it brings all that follows, so that what the other one
 * brings as well, or fails to bring, makes no difference.
 */
export class ChannelSubscription {
  readonly name: string;
  readonly #random: Random;
  readonly #doubles: Doubles;
  readonly #listener: SubscriptionListener;
  #position: Position | null = null;
  /** Proof of what was allowed: with it nobody is asked again. */
  #grant: string | null = null;
  #wish: Wish | null = null;
  /** On the newest connection. */
  #hold: Hold | null = null;
  /** On the connection that is being left, as long as it still delivers. */
  #earlier: Hold | null = null;
  /** The request on its way, on the newest connection: at most one. */
  #request: object | null = null;
  #refusals = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #closed: TidegateError | null = null;

  constructor(name: string, random: Random, doubles: Doubles, listener: SubscriptionListener) {
    this.name = name;
    this.#random = random;
    this.#doubles = doubles;
    this.#listener = listener;
  }

  get position(): Position | null {
    return this.#position;
  }

  /** Where the channel is subscribed, else where it would be. */
  get connection(): GatewayConnection | null {
    return (this.#source ?? this.#hold)?.connection ?? null;
  }

  /** Nothing that the connection being left still brings is needed. */
  get handedOver(): boolean {
    return !this.#grants(this.#earlier) || this.#bridges(this.#hold);
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
    this.#listener.settled();
  }

  /** There is a new connection, on which the gateway holds nothing yet; where there is one already, beside that. */
  connected(connection: GatewayConnection): void {
    this.#earlier = this.#hold;
    this.#ask(new Hold(connection));
  }

  disconnected(connection: GatewayConnection): void {
    const newest = this.#hold?.connection === connection;
    if (!newest && this.#earlier?.connection !== connection) return;
    const left = newest ? this.#earlier : this.#hold;
    this.#earlier = null;
    // What the one that is left passed over, because the other brought it, is asked for.
    if (left && this.#grants(left) && !this.#bridges(left)) left.granted = null;
    if (newest) this.#ask(left);
    else this.#reconcile();
  }

  /** For good: nothing is subscribed any more. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#earlier = null;
    this.#ask(null);
    this.#drop(error);
  }

  deliver(connection: GatewayConnection, event: string, data: unknown, meta: PublicationMeta): void {
    const hold = this.#on(connection);
    if (hold) this.#deliver(hold, event, data, meta);
  }

  /** Whether the application is told of a join or leave. */
  hears(connection: GatewayConnection, event: string, word: JoinLeave): boolean {
    return connection === this.#source?.connection && this.#doubles.passes(connection, event, word);
  }

  resync(connection: GatewayConnection, resync: Resync): void {
    const hold = this.#on(connection);
    if (!hold || !this.#grants(hold)) return;
    hold.at = resync.position;
    const other = hold === this.#hold ? this.#earlier : this.#hold;
    // The other connection brings what this one leaves out, or has brought it.
    if (this.#bridges(other) && sameHistory(resync.position, this.#position)) return;
    this.#position = resync.position;
    this.#listener.resync(resync);
  }

  /** The server subscribed this session. True where the channel was not the application's wish before. */
  subscribed(connection: GatewayConnection, { position, grant }: Subscribed): boolean {
    const hold = this.#on(connection);
    if (!hold) return false;
    if (typeof grant === "string") this.#grant = grant;
    // A request on its way reaches the gateway after this: its answer is what holds.
    if (hold === this.#hold && this.#request) return false;
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
    hold.at = position;
    this.#reconcile();
    return true;
  }

  /** For the next time it is subscribed. */
  grantRenewed(grant: string): void {
    if (this.#grant !== null) this.#grant = grant;
  }

  revoked(connection: GatewayConnection, { reason }: Revoked): void {
    this.#grant = null;
    const hold = this.#on(connection);
    if (!hold?.granted) return;
    const wished = this.#grants(hold);
    hold.granted = null;
    if (wished) this.#end("revoked", reason, failure("revoked", reason));
    this.#reconcile();
  }

  /** Where that counts which has no offset. */
  get #source(): Hold | null {
    if (this.#grants(this.#hold)) return this.#hold;
    return this.#grants(this.#earlier) ? this.#earlier : null;
  }

  #on(connection: GatewayConnection): Hold | null {
    if (this.#hold?.connection === connection) return this.#hold;
    return this.#earlier?.connection === connection ? this.#earlier : null;
  }

  /** Whether what the gateway sends there belongs to what the application now wishes. */
  #grants(hold: Hold | null): boolean {
    return hold !== null && this.#wish !== null && hold.granted === this.#wish;
  }

  #bridges(hold: Hold | null): boolean {
    return hold !== null && this.#grants(hold) && bridges(hold.at, this.#position);
  }

  #deliver(hold: Hold, event: string, data: unknown, meta: PublicationMeta): void {
    if (!this.#grants(hold)) return;
    if ("offset" in meta) {
      const next = this.#bridges(hold) && this.#position && advance(this.#position, meta.offset);
      hold.passed(meta.offset);
      if (!next) return;
      this.#position = next;
    } else if (hold !== this.#source || !this.#doubles.passes(hold.connection, event, data, meta)) return;
    this.#listener.published(event, data, meta);
  }

  /** From now on requests go there; what was asked elsewhere does not count. */
  #ask(hold: Hold | null): void {
    this.#hold = hold;
    this.#request = null;
    this.#refusals = 0;
    this.#reconcile();
  }

  #reconcile(): void {
    const hold = this.#hold;
    if (this.#request) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    if (!hold || hold.granted === this.#wish) return;
    if (hold.granted) {
      // Where the answer is a refusal, there was nothing left to leave.
      this.#send(hold, "sync:unsubscribe", {}, () => (hold.granted = null));
    } else if (this.#wish) {
      const wish = this.#wish;
      const position = this.#position;
      const presented = { ...(position && { position }), ...(this.#grant !== null && { grant: this.#grant }) };
      this.#send<SubscribeAck>(hold, "sync:subscribe", presented, (ack) => {
        if (!ack.ok) return this.#refused(wish, new TidegateError(ack.error));
        if (ack.grant !== undefined) this.#grant = ack.grant;
        this.#refusals = 0;
        hold.granted = wish;
        if (this.#wish === wish) this.#accept(hold, wish, position, ack);
      });
    }
  }

  #send<T extends object>(hold: Hold, event: string, more: object, answered: (ack: Ack<T>) => void): void {
    const request = (this.#request = {});
    hold.connection.request<T>(event, [{ channel: this.name, ...more }], (ack) => {
      if (this.#request !== request) return;
      this.#request = null;
      answered(ack);
      if (this.#retryTimer === undefined) this.#reconcile();
      this.#listener.settled();
    });
  }

  #accept(hold: Hold, wish: Wish, presented: Position | null, ack: SubscribeAck): void {
    const { recovered, position, reason } = ack;
    const bridged = this.#bridges(this.#earlier);
    // The position moved meanwhile: from there it may do.
    if (!bridged && !recovered && presented !== this.#position) return void (hold.granted = null);
    if (!bridged) this.#position = replayStart(this.#position, ack);
    // Where nothing was recovered, what the connection being left still brings leads up to `position`.
    hold.at = bridged ? (recovered ? presented : position) : this.#position;
    for (const { event, data, ...meta } of ack.publications) {
      this.#deliver(hold, event, data, { channel: this.name, ...meta });
    }
    // A listener may have changed the application's mind.
    if (this.#wish !== wish) return;
    hold.at = position;
    if (!bridged || (recovered && sameHistory(position, this.#position))) {
      this.#position = furthest(this.#position, position);
    }
    if (bridged) return;
    if (!wish.answered) {
      wish.answered = true;
      wish.resolve({ recovered, position, ...(reason && { reason }) });
    } else if (!recovered && reason) {
      this.#listener.resync({ channel: this.name, position, reason });
    }
  }

  #refused(wish: Wish, error: TidegateError): void {
    if (error.code === "channel_not_allowed") this.#grant = null;
    if (this.#wish !== wish) return;
    if (!error.retryable) return this.#end(error.code, error.message, error);
    const delayMs = (error.retryAfterMs ?? 0) + backoffDelayMs(this.#refusals++, this.#random);
    this.#retryTimer = setTimeout(() => this.#reconcile(), delayMs);
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
