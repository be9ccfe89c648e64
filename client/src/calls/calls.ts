import { isApplicationEvent } from "../../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../../shared/protocol/limits.ts";
import type { Ack, CallAck } from "../../../shared/protocol/wire.ts";
import type { CallOptions, OfflineBounds } from "../api/call-options.ts";
import { CallQueue } from "./call-queue.ts";
import type { GatewayConnection } from "../connection/connection.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { maxTimerMs, type Random, repeatDelayMs } from "../connection/timing.ts";

/** The longest `timeoutMs` of the contract. */
const maxTryMs = 600_000;
/** What an answer that the gateway gives just in time may still need on its way. */
const answerTravelMs = 1_000;
const defaultWithinMs = 60_000;
/** As many events as a gateway takes at once from a connection, and then each second, unless it is set otherwise. */
const burst = 100;
const perSecond = 50;

/** One action of the application, through all its tries. */
interface Call {
  readonly order: number;
  readonly event: string;
  readonly data: unknown;
  readonly bytes: number;
  readonly id: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly repeat: boolean;
  /** May wait for a connection as long as it was never sent. */
  readonly offline: boolean;
  /** By `performance.now()`. */
  readonly endsAtMs: number;
  readonly resolve: (data: unknown) => void;
  readonly reject: (error: TidegateError) => void;
  /** Perhaps a service has it. */
  sent: boolean;
  tries: number;
  /** Of the last try. */
  error: TidegateError | null;
  /** Ends a wait; a call has at most one. */
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Waits for a moment, not for a connection. */
  paused: boolean;
}

/**
 * Calls, from the application's wish to one answer each. A call that was never sent may wait for a connection where it
 * is allowed to; one that was sent is sent again only where it is marked as safe to repeat.
 */
export class Calls {
  readonly #random: Random;
  readonly #offline: boolean;
  readonly #queue: CallQueue<Call>;
  #connection: GatewayConnection | null = null;
  /** Of the last welcome. */
  #maxPayloadBytes = maxPayloadBytes;
  #closed: TidegateError | null = null;
  #made = 0;
  #releaseTimer: ReturnType<typeof setTimeout> | undefined;

  /** @param options.offline bounds of what may wait; without it only calls that ask for it wait unsent */
  constructor(options: { random: Random; offline?: OfflineBounds | undefined }) {
    this.#random = options.random;
    this.#offline = options.offline !== undefined;
    this.#queue = new CallQueue(options.offline);
  }

  async call(event: string, data: unknown, options: CallOptions): Promise<unknown> {
    if (this.#closed) throw this.#closed;
    if (!isApplicationEvent(event)) throw failure("invalid_request", `not an event's name: ${event}`);
    const { id, timeoutMs, repeat = false, offline = this.#offline, withinMs } = options;
    if (repeat && id === undefined) throw failure("invalid_request", "a call is repeated by its id: give it one");
    const text = JSON.stringify(data) ?? "null";
    const bytes = new TextEncoder().encode(text).length;
    // Far past its limit the gateway closes the connection: it would not come to answer.
    if (bytes > this.#maxPayloadBytes) throw this.#tooLarge(bytes);
    if (!this.#connection && !offline) throw failure("not_connected", "there is no connection", true);
    const mayWait = repeat || offline;
    return new Promise((resolve, reject) => {
      const call: Call = {
        order: this.#made++,
        event,
        // What may be sent later is sent as it was when the call was made.
        data: mayWait ? (JSON.parse(text) as unknown) : data,
        bytes,
        id,
        timeoutMs,
        repeat,
        offline,
        endsAtMs: mayWait
          ? performance.now() + Math.min(withinMs ?? defaultWithinMs, maxTimerMs)
          : Number.POSITIVE_INFINITY,
        resolve,
        reject,
        sent: false,
        tries: 0,
        error: null,
        timer: undefined,
        paused: false,
      };
      if (this.#connection) this.#send(call, this.#connection);
      else this.#await(call);
    });
  }

  /** New calls go there, and what waits for it, in the order in which it was called; others are answered where they are. */
  connected(connection: GatewayConnection, maxPayloadBytes: number): void {
    this.#connection = connection;
    this.#maxPayloadBytes = maxPayloadBytes;
    this.#release(connection, burst);
  }

  /** There is none. What was in flight fails, or waits for its repeat, by the answer that its connection gives it. */
  disconnected(): void {
    clearTimeout(this.#releaseTimer);
    this.#connection = null;
  }

  /** For good. What was never sent fails with `error`, what was sent with what its last try said. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.disconnected();
    for (const call of this.#queue.inOrder()) this.#fail(call, call.error ?? error);
  }

  /** So many now, the rest at the rate that the gateway takes. */
  #release(connection: GatewayConnection, atOnce: number): void {
    clearTimeout(this.#releaseTimer);
    const waiting = this.#queue.inOrder().filter(({ paused }) => !paused);
    for (const call of waiting.slice(0, atOnce)) {
      if (this.#connection !== connection) return;
      this.#resume(call);
      this.#send(call, connection);
    }
    if (waiting.length <= atOnce) return;
    this.#releaseTimer = setTimeout(() => this.#release(connection, perSecond), 1_000);
  }

  #send(call: Call, connection: GatewayConnection): void {
    // A gateway with a smaller limit than the one before.
    if (call.bytes > this.#maxPayloadBytes) return this.#fail(call, this.#tooLarge(call.bytes));
    const { event, data, id, timeoutMs } = call;
    const options = { ...(id !== undefined && { id }), ...(timeoutMs !== undefined && { timeoutMs }) };
    const args = Object.keys(options).length > 0 ? [data, options] : [data];
    const tryMs = Math.min((timeoutMs ?? maxTryMs) + answerTravelMs, Math.max(0, call.endsAtMs - performance.now()));
    connection.request<CallAck>(event, args, (ack) => this.#answered(call, ack, connection), tryMs);
  }

  #answered(call: Call, ack: Ack<CallAck>, connection: GatewayConnection): void {
    if (ack.ok) return call.resolve(ack.data);
    const error = new TidegateError(ack.error);
    const unsent = error.code === "not_connected";
    // Refused by the gateway itself, before anybody was asked: with a status it is the service's word.
    const unasked = error.code === "rate_limited" && error.status === undefined;
    if (!unsent && !unasked) call.sent = true;
    if (unsent && !call.sent && !call.offline) return call.reject(error);
    call.error = unsent ? call.error : error;
    const again = error.retryable && (call.repeat || (call.offline && !call.sent));
    if (!again || this.#closed) return call.reject(error);
    // While the client moves, the one that was lost is not the one in use.
    if (!this.#connection || (unsent && this.#connection === connection)) this.#await(call);
    else this.#pause(call, error);
  }

  /** Until there is a connection, or its time is up. */
  #await(call: Call): void {
    if (!this.#queue.add(call))
      return this.#fail(call, call.error ?? failure("queue_full", "too many calls wait", true));
    const late = failure("not_connected", "the connection did not come back in time", true);
    call.timer = setTimeout(() => this.#fail(call, call.error ?? late), call.endsAtMs - performance.now());
  }

  /** Until its next try is due; where that would be too late it fails at once. */
  #pause(call: Call, error: TidegateError): void {
    const delayMs = repeatDelayMs(call.tries++, error.retryAfterMs, this.#random);
    const late = performance.now() + delayMs >= call.endsAtMs;
    if (late || !this.#queue.add(call)) return this.#fail(call, error);
    call.paused = true;
    call.timer = setTimeout(() => {
      this.#resume(call);
      if (this.#connection) this.#send(call, this.#connection);
      else this.#await(call);
    }, delayMs);
  }

  #resume(call: Call): void {
    clearTimeout(call.timer);
    call.paused = false;
    this.#queue.remove(call);
  }

  #fail(call: Call, error: TidegateError): void {
    this.#resume(call);
    call.reject(error);
  }

  #tooLarge(bytes: number): TidegateError {
    return failure("payload_too_large", `${bytes} bytes, of ${this.#maxPayloadBytes} at most`);
  }
}
