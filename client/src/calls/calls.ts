import { isApplicationEvent } from "../../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../../shared/protocol/limits.ts";
import type { Ack, CallAck, QueuedAck } from "../../../shared/protocol/wire.ts";
import type { CallOptions, OfflineBounds } from "../api/call-options.ts";
import { CallQueue } from "./call-queue.ts";
import type { Requester } from "./requester.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { maxTimerMs, type Random, repeatDelayMs } from "./backoff.ts";

/** The longest `timeoutMs` of the contract. */
const maxTryMs = 600_000;
/** For an answer that the gateway sends just in time. */
const answerTravelMs = 1_000;
const defaultWithinMs = 60_000;
/** The gateway's default rate limit for the events of one connection. */
const burst = 100;
const perSecond = 50;

/** One action of the application, with all its tries. */
interface Call {
  readonly order: number;
  readonly event: string;
  readonly data: unknown;
  readonly bytes: number;
  readonly id: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly repeat: boolean;
  /** May wait for a connection while it has never been sent. */
  readonly offline: boolean;
  /** By `performance.now()`. */
  readonly endsAtMs: number;
  readonly resolve: (data: unknown) => void;
  readonly reject: (error: TidegateError) => void;
  /** It may have reached a service. */
  sent: boolean;
  tries: number;
  /** The last try's. */
  error: TidegateError | null;
  /** Of its wait in the queue. */
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Waits for its next try, not for a connection. */
  paused: boolean;
}

/**
 * Sends calls and settles each once. A call that was never sent waits for a connection if `offline` allows that; a call
 * that was sent is sent again only with `repeat`.
 */
export class Calls {
  readonly #random: Random;
  readonly #offline: boolean;
  readonly #queue: CallQueue<Call>;
  #connection: Requester | null = null;
  /** From the last welcome. */
  #maxPayloadBytes = maxPayloadBytes;
  #closed: TidegateError | null = null;
  #made = 0;
  #releaseTimer: ReturnType<typeof setTimeout> | undefined;

  /** @param options.offline bounds of the queue; without it only calls that set `offline` wait before their first try */
  constructor(options: { random: Random; offline?: OfflineBounds | undefined }) {
    this.#random = options.random;
    this.#offline = options.offline !== undefined;
    this.#queue = new CallQueue(options.offline);
  }

  async call(event: string, data: unknown, options: CallOptions): Promise<unknown> {
    if (this.#closed) throw this.#closed;
    if (!isApplicationEvent(event)) throw failure("invalid_request", `invalid event name: ${event}`);
    const { id, timeoutMs, repeat = false, offline = this.#offline, withinMs } = options;
    if (repeat && id === undefined) throw failure("invalid_request", "repeat needs an id, the same for every try");
    const text = JSON.stringify(data) ?? "null";
    const bytes = new TextEncoder().encode(text).length;
    // Far past its limit the gateway closes the connection instead of answering.
    if (bytes > this.#maxPayloadBytes) throw this.#tooLarge(bytes);
    if (!this.#connection && !offline) throw failure("not_connected", "not connected", true);
    const mayWait = repeat || offline;
    return new Promise((resolve, reject) => {
      const call: Call = {
        order: this.#made++,
        event,
        // A copy: the application may change the object before a later try.
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
      else this.#waitForConnection(call);
    });
  }

  /** Sends waiting and new calls on this connection. Calls in flight are answered on their own. */
  connected(connection: Requester, maxPayloadBytes: number): void {
    this.#connection = connection;
    this.#maxPayloadBytes = maxPayloadBytes;
    this.#release(connection, burst);
  }

  /** No connection is left. The lost one answers its open requests with an error. */
  disconnected(): void {
    clearTimeout(this.#releaseTimer);
    this.#connection = null;
  }

  /** Final. A waiting call fails with the error of its last try, or with `error` if it was never sent. */
  close(error: TidegateError): void {
    this.#closed = error;
    this.disconnected();
    for (const call of this.#queue.inOrder()) this.#fail(call, call.error ?? error);
  }

  /** Sends `atOnce` of the waiting calls now, the rest at the gateway's rate. */
  #release(connection: Requester, atOnce: number): void {
    clearTimeout(this.#releaseTimer);
    const waiting = this.#queue.inOrder().filter(({ paused }) => !paused);
    for (const call of waiting.slice(0, atOnce)) {
      if (this.#connection !== connection) return;
      this.#dequeue(call);
      this.#send(call, connection);
    }
    if (waiting.length <= atOnce) return;
    this.#releaseTimer = setTimeout(() => this.#release(connection, perSecond), 1_000);
  }

  #send(call: Call, connection: Requester): void {
    // This gateway may have a smaller limit than the last one.
    if (call.bytes > this.#maxPayloadBytes) return this.#fail(call, this.#tooLarge(call.bytes));
    const { event, data, id, timeoutMs } = call;
    const options = { ...(id !== undefined && { id }), ...(timeoutMs !== undefined && { timeoutMs }) };
    const args = Object.keys(options).length > 0 ? [data, options] : [data];
    const tryMs = Math.min((timeoutMs ?? maxTryMs) + answerTravelMs, Math.max(0, call.endsAtMs - performance.now()));
    connection.request<CallAck | QueuedAck>(event, args, (ack) => this.#answered(call, ack, connection), tryMs);
  }

  #answered(call: Call, ack: Ack<CallAck | QueuedAck>, connection: Requester): void {
    if (ack.ok) return call.resolve("queued" in ack ? { queued: ack.queued, id: ack.id } : ack.data);
    const error = new TidegateError(ack.error);
    const unsent = error.code === "not_connected";
    // Without a status the gateway itself refused: no service received the call.
    const limited = error.code === "rate_limited" && error.status === undefined;
    if (!unsent && !limited) call.sent = true;
    if (unsent && !call.sent && !call.offline) return call.reject(error);
    call.error = unsent ? call.error : error;
    const retry = error.retryable && (call.repeat || (call.offline && !call.sent));
    if (!retry || this.#closed) return call.reject(error);
    // In a move the connection that was lost need not be the one in use.
    if (!this.#connection || (unsent && this.#connection === connection)) this.#waitForConnection(call);
    else this.#waitForRepeat(call, error);
  }

  #waitForConnection(call: Call): void {
    if (!this.#queue.add(call)) {
      return this.#fail(call, call.error ?? failure("queue_full", "too many calls are waiting", true));
    }
    const late = failure("not_connected", "timed out waiting for a connection", true);
    call.timer = setTimeout(() => this.#fail(call, call.error ?? late), call.endsAtMs - performance.now());
  }

  /** Fails at once if the next try would be too late. */
  #waitForRepeat(call: Call, error: TidegateError): void {
    const delayMs = repeatDelayMs(call.tries++, error.retryAfterMs, this.#random);
    const late = performance.now() + delayMs >= call.endsAtMs;
    if (late || !this.#queue.add(call)) return this.#fail(call, error);
    call.paused = true;
    call.timer = setTimeout(() => {
      this.#dequeue(call);
      if (this.#connection) this.#send(call, this.#connection);
      else this.#waitForConnection(call);
    }, delayMs);
  }

  #dequeue(call: Call): void {
    clearTimeout(call.timer);
    call.paused = false;
    this.#queue.remove(call);
  }

  #fail(call: Call, error: TidegateError): void {
    this.#dequeue(call);
    call.reject(error);
  }

  #tooLarge(bytes: number): TidegateError {
    return failure("payload_too_large", `the data has ${bytes} bytes, the limit is ${this.#maxPayloadBytes}`);
  }
}
