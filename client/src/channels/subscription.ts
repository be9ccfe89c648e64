import type { Ack, Position, Revoked, SubscribeAck, Subscribed } from "../../../shared/protocol/wire.ts";
import type { ChannelEnd } from "../api/channel.ts";
import type { ChannelStream } from "./channel-stream.ts";
import type { ChannelDelivery } from "./delivery.ts";
import { failure, TidegateError } from "../api/errors.ts";
import type { Requester } from "../calls/requester.ts";
import { repeatDelayMs, type Random } from "../calls/backoff.ts";
import { SubscribeRequest } from "./subscribe-request.ts";

export interface SubscriptionListener {
  ended(end: ChannelEnd, error: TidegateError): void;
  /** `handedOver` may have become true. */
  settled(): void;
}

/**
 * Brings what the gateway grants in line with what the application wants, with one request at a time, so that neither
 * quick changes nor reconnects can leave the two apart. Requests go to the newest connection. A subscription by the
 * server counts as a request of the application.
 */
export class ChannelSubscription {
  readonly #name: string;
  readonly #random: Random;
  readonly #delivery: ChannelDelivery;
  readonly #listener: SubscriptionListener;
  #wanted: SubscribeRequest | null = null;
  /** Presented with the next subscribe, so that the gateway need not ask the application's service. */
  #grant: string | null = null;
  /** Identifies the open request on the newest connection. */
  #inFlight: object | null = null;
  #refusals = 0;
  /** The last one since the connection began, while none is granted. */
  #refusal: TidegateError | null = null;
  /** No request is sent earlier, whatever the application does after a refusal. By `performance.now()`. */
  #notBeforeMs = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #closed: TidegateError | null = null;

  constructor(name: string, random: Random, delivery: ChannelDelivery, listener: SubscriptionListener) {
    this.#name = name;
    this.#random = random;
    this.#delivery = delivery;
    this.#listener = listener;
  }

  get wanted(): SubscribeRequest | null {
    return this.#wanted;
  }

  /** Nothing is wanted, and no request is open. */
  get idle(): boolean {
    return this.#wanted === null && this.#inFlight === null;
  }

  get closed(): TidegateError | null {
    return this.#closed;
  }

  /** Why the subscription is not granted yet, if the gateway has said so on this connection. */
  get refusal(): TidegateError | null {
    return this.#refusal;
  }

  /** Only if nothing is wanted. */
  subscribe(position: Position | null): void {
    this.#want(position);
    this.#reconcile();
  }

  unsubscribe(): void {
    this.#withdraw();
    this.#reconcile();
    this.#listener.settled();
  }

  /** The gateway has granted nothing on this connection yet. In a move the earlier connection keeps its stream. */
  connected(connection: Requester): void {
    this.#delivery.connected(connection);
    this.#restart();
  }

  disconnected(connection: Requester): void {
    const wasNewest = this.#delivery.newest?.connection === connection;
    if (!this.#delivery.disconnected(connection)) return;
    if (wasNewest) this.#restart();
    else this.#reconcile();
  }

  /** Final. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.#delivery.close();
    this.#restart();
    this.#withdraw();
  }

  /** The server subscribed this session. Returns true unless the application had requested the channel. */
  subscribed(connection: Requester, { position, grant }: Subscribed): boolean {
    const stream = this.#delivery.on(connection);
    if (!stream) return false;
    if (typeof grant === "string") this.#grant = grant;
    // The gateway reads the open request after it sent this event: the answer to that counts.
    if (stream === this.#delivery.newest && this.#inFlight) return false;
    this.#notBeforeMs = 0;
    if (this.#wanted) {
      // Not granted yet: subscribe with the grant, from the application's own position.
      this.#reconcile();
      return false;
    }
    const request = this.#want(position);
    request.answered = true;
    stream.granted = request;
    stream.position = position;
    this.#reconcile();
    return true;
  }

  grantRenewed(grant: string): void {
    if (this.#grant !== null) this.#grant = grant;
  }

  revoked(connection: Requester, { reason }: Revoked): void {
    this.#grant = null;
    const stream = this.#delivery.on(connection);
    if (!stream?.granted) return;
    const { live } = stream;
    stream.granted = null;
    if (live) this.#end("revoked", reason, failure("revoked", reason));
    this.#reconcile();
  }

  /** Ignores the answer to the open request: the newest connection is another one. */
  #restart(): void {
    this.#inFlight = null;
    this.#refusals = 0;
    this.#refusal = null;
    this.#notBeforeMs = 0;
    this.#reconcile();
  }

  #reconcile(): void {
    const stream = this.#delivery.newest;
    if (this.#inFlight) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    if (!stream || stream.granted === this.#wanted) return;
    const pauseMs = this.#notBeforeMs - performance.now();
    if (pauseMs > 0) this.#retryTimer = setTimeout(() => this.#reconcile(), pauseMs);
    else if (stream.granted) this.#sendUnsubscribe(stream);
    else if (this.#wanted) this.#sendSubscribe(stream, this.#wanted);
  }

  #sendUnsubscribe(stream: ChannelStream): void {
    this.#send(stream, "sync:unsubscribe", {}, (ack) => {
      // After any other refusal there is no subscription.
      if (!ack.ok && ack.error.retryable) return this.#pause(ack.error.retryAfterMs);
      this.#refusals = 0;
      stream.granted = null;
    });
  }

  #sendSubscribe(stream: ChannelStream, request: SubscribeRequest): void {
    const { position } = this.#delivery;
    const presented = { ...(position && { position }), ...(this.#grant !== null && { grant: this.#grant }) };
    this.#send<SubscribeAck>(stream, "sync:subscribe", presented, (ack) => {
      if (!ack.ok) return this.#refused(request, new TidegateError(ack.error));
      if (ack.grant !== undefined) this.#grant = ack.grant;
      this.#refusals = 0;
      this.#refusal = null;
      stream.granted = request;
      if (!request.withdrawn) this.#delivery.replay(stream, request, position, ack);
    });
  }

  #send<T extends object>(
    { connection }: ChannelStream,
    event: string,
    more: object,
    answered: (ack: Ack<T>) => void,
  ): void {
    const request = (this.#inFlight = {});
    connection.request<T>(event, [{ channel: this.#name, ...more }], (ack) => {
      if (this.#inFlight !== request) return;
      this.#inFlight = null;
      answered(ack);
      if (this.#retryTimer === undefined) this.#reconcile();
      this.#listener.settled();
    });
  }

  #refused(request: SubscribeRequest, error: TidegateError): void {
    if (error.code === "channel_not_allowed") this.#grant = null;
    if (request.withdrawn) return;
    this.#refusal = error;
    // Also after a final refusal: an application may subscribe again in onEnd.
    this.#pause(error.retryAfterMs);
    if (!error.retryable) this.#end(error.code, error.message, error);
  }

  #pause(retryAfterMs: number | undefined): void {
    this.#notBeforeMs = performance.now() + repeatDelayMs(this.#refusals++, retryAfterMs, this.#random);
  }

  #end(code: string, reason: string, error: TidegateError): void {
    this.#withdraw();
    this.#listener.ended({ channel: this.#name, code, reason }, error);
  }

  #want(position: Position | null): SubscribeRequest {
    this.#delivery.startAt(position);
    return (this.#wanted = new SubscribeRequest());
  }

  #withdraw(): void {
    if (this.#wanted) this.#wanted.withdrawn = true;
    this.#wanted = null;
  }
}
