import { isApplicationEvent } from "../../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../../shared/protocol/limits.ts";
import type { Ack, CallAck, QueuedAck } from "../../../shared/protocol/wire.ts";
import { abortedBy, onAbort } from "../api/abort.ts";
import type { CallOptions, OfflineBounds } from "../api/call-options.ts";
import { checkOptions, jsonOf } from "./call-input.ts";
import { CallPace } from "./call-pace.ts";
import { CallQueue } from "./call-queue.ts";
import type { Requester } from "./requester.ts";
import { failure, TidegateError } from "../api/errors.ts";
import { maxTimerMs, type Random, repeatDelayMs } from "./backoff.ts";

/** The longest `timeoutMs` of the contract. */
const maxTryMs = 600_000;
/** For an answer that the gateway sends just in time. */
const answerTravelMs = 1_000;
const defaultWithinMs = 60_000;
/** Between two batches of the calls that wait for their turn. */
const batchMs = 1_000;

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
  /** Does not wait longer than that, for a connection, its turn or its next try. By `performance.now()`. */
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
  /** By the application: no answer counts, and it is not sent again. */
  aborted: boolean;
}

/**
 * Sends calls and settles each once. A call that was never sent waits for a connection if `offline` allows that, and for its
 * turn; a call that was sent is sent again only with `repeat`.
 */
export class Calls {
  readonly #random: Random;
  readonly #offline: boolean;
  readonly #queue: CallQueue<Call>;
  #connection: Requester | null = null;
  readonly #paces = new WeakMap<Requester, CallPace>();
  /** From the last welcome. */
  #maxPayloadBytes = maxPayloadBytes;
  #closed: TidegateError | null = null;
  #made = 0;
  #batchTimer: ReturnType<typeof setTimeout> | undefined;

  /** @param options.offline bounds of the queue; without it only calls that set `offline` wait before their first try */
  constructor(options: { random: Random; offline?: OfflineBounds | undefined }) {
    this.#random = options.random;
    this.#offline = options.offline !== undefined;
    this.#queue = new CallQueue(options.offline);
  }

  async call(event: string, data: unknown, options: CallOptions): Promise<unknown> {
    if (this.#closed) throw this.#closed;
    if (!isApplicationEvent(event)) throw failure("invalid_request", `invalid event name: ${event}`);
    checkOptions(options);
    const { id, timeoutMs, repeat = false, offline = this.#offline, withinMs, signal } = options;
    if (signal?.aborted) throw abortedBy(signal);
    const text = jsonOf(data);
    const bytes = new TextEncoder().encode(text).length;
    // Far past its limit the gateway closes the connection instead of answering.
    if (bytes > this.#maxPayloadBytes) throw this.#tooLarge(bytes);
    if (!this.#connection && !offline) throw failure("not_connected", "not connected", true);
    let stopListening = (): void => undefined;
    const answer = new Promise((resolve, reject) => {
      const call: Call = {
        order: this.#made++,
        event,
        // A copy: the application may change the object before it is sent.
        data: JSON.parse(text) as unknown,
        bytes,
        id,
        timeoutMs,
        repeat,
        offline,
        endsAtMs: performance.now() + Math.min(withinMs ?? defaultWithinMs, maxTimerMs),
        resolve,
        reject,
        sent: false,
        tries: 0,
        error: null,
        timer: undefined,
        paused: false,
        aborted: false,
      };
      stopListening = onAbort(signal, (error) => {
        call.aborted = true;
        this.#fail(call, error);
      });
      this.#sendInTurn(call);
    });
    return answer.finally(stopListening);
  }

  /** Sends waiting and new calls on this connection. Calls in flight are answered on their own. */
  connected(connection: Requester, maxPayloadBytes: number): void {
    this.#connection = connection;
    this.#maxPayloadBytes = maxPayloadBytes;
    if (!this.#paces.has(connection)) this.#paces.set(connection, new CallPace());
    this.#release();
  }

  /** No connection is left. The lost one answers its open requests with an error. */
  disconnected(): void {
    this.#connection = null;
    this.#stopBatches();
    const lost = failure("not_connected", "the connection was lost before the call could be sent", true);
    for (const call of this.#queue.inOrder()) {
      if (!call.sent && !call.offline && !call.repeat) this.#fail(call, call.error ?? lost);
    }
  }

  /** Final. A waiting call fails with the error of its last try, or with `error` if it was never sent. */
  close(error: TidegateError): void {
    this.#closed = error;
    for (const call of this.#queue.inOrder()) this.#fail(call, call.error ?? error);
    this.disconnected();
  }

  /** Sends the calls whose turn it is, in order; the others follow in batches. */
  #release(): void {
    this.#stopBatches();
    const connection = this.#connection;
    const pace = connection && this.#paces.get(connection);
    if (!connection || !pace) return;
    for (const call of this.#queue.inOrder()) {
      // A call that fails at once may end the connection, in a listener.
      if (this.#connection !== connection) return;
      if (call.paused) continue;
      // The page was frozen, or its timers are slowed down: the timer of the call has not fired yet.
      if (performance.now() >= call.endsAtMs) {
        this.#failLate(call);
        continue;
      }
      if (!pace.take()) return this.#releaseLater();
      this.#dequeue(call);
      this.#send(call, connection);
    }
  }

  #releaseLater(): void {
    const heldMs = (this.#connection && this.#paces.get(this.#connection)?.heldMs) ?? 0;
    this.#batchTimer ??= setTimeout(() => this.#release(), heldMs || batchMs);
  }

  #stopBatches(): void {
    clearTimeout(this.#batchTimer);
    this.#batchTimer = undefined;
  }

  #send(call: Call, connection: Requester): void {
    // This gateway may have a smaller limit than the last one.
    if (call.bytes > this.#maxPayloadBytes) return this.#fail(call, this.#tooLarge(call.bytes));
    const { event, data, id, timeoutMs } = call;
    const options = { ...(id !== undefined && { id }), ...(timeoutMs !== undefined && { timeoutMs }) };
    const args = Object.keys(options).length > 0 ? [data, options] : [data];
    const bounded = call.repeat || call.offline;
    const leftMs = bounded ? Math.max(0, call.endsAtMs - performance.now()) : maxTimerMs;
    const tryMs = Math.min((timeoutMs ?? maxTryMs) + answerTravelMs, leftMs);
    connection.request<CallAck | QueuedAck>(event, args, (ack) => this.#answered(call, ack, connection), tryMs);
  }

  #answered(call: Call, ack: Ack<CallAck | QueuedAck>, connection: Requester): void {
    if (call.aborted) return;
    if (ack.ok) return call.resolve("queued" in ack ? { queued: ack.queued, id: ack.id } : ack.data);
    const error = new TidegateError(ack.error);
    const unsent = error.code === "not_connected";
    // Without a status the gateway itself refused: no service received the call.
    const limited = error.code === "rate_limited" && error.status === undefined;
    if (!unsent && !limited) call.sent = true;
    if (unsent && !call.sent && !call.offline) return call.reject(error);
    call.error = unsent ? call.error : error;
    const retry = error.retryable && (call.repeat || (!call.sent && (call.offline || limited)));
    if (!retry || this.#closed) return call.reject(error);
    // In a move the connection that was lost need not be the one in use.
    if (!this.#connection || (unsent && this.#connection === connection)) this.#enqueue(call);
    else if (limited) this.#waitForRate(call, error, connection);
    else this.#waitForRepeat(call, error);
  }

  /** Sends the call if it is its turn. */
  #sendInTurn(call: Call): void {
    const connection = this.#connection;
    const othersWait = this.#batchTimer !== undefined;
    if (connection && !othersWait && this.#paces.get(connection)?.take()) return this.#send(call, connection);
    this.#enqueue(call);
    if (connection && !othersWait) this.#releaseLater();
  }

  /** The call waits for a connection, or for its turn. */
  #enqueue(call: Call): void {
    if (!this.#queue.add(call)) {
      return this.#fail(call, call.error ?? failure("queue_full", "too many calls are waiting", true));
    }
    this.#waitInQueue(call);
  }

  #waitInQueue(call: Call): void {
    call.timer = setTimeout(() => this.#failLate(call), call.endsAtMs - performance.now());
  }

  /** All calls on the connection wait, so that those which the gateway refused are sent again in their order. */
  #waitForRate(call: Call, error: TidegateError, connection: Requester): void {
    const pace = this.#paces.get(connection);
    // The first refusal adds the random delay, once for all that are refused with it.
    const delayMs = pace?.heldMs
      ? (error.retryAfterMs ?? 0)
      : repeatDelayMs(call.tries, error.retryAfterMs, this.#random);
    call.tries++;
    if (performance.now() + delayMs >= call.endsAtMs) return this.#fail(call, error);
    pace?.hold(delayMs);
    this.#queue.addBack(call);
    this.#waitInQueue(call);
    this.#releaseLater();
  }

  /** Fails at once if the next try would be too late. */
  #waitForRepeat(call: Call, error: TidegateError): void {
    const delayMs = repeatDelayMs(call.tries++, error.retryAfterMs, this.#random);
    const late = performance.now() + delayMs >= call.endsAtMs;
    if (late || !this.#queue.add(call)) return this.#fail(call, error);
    call.paused = true;
    call.timer = setTimeout(() => {
      call.paused = false;
      this.#waitInQueue(call);
      if (this.#batchTimer === undefined) this.#release();
    }, delayMs);
  }

  /** The time for which the call may wait is over. */
  #failLate(call: Call): void {
    this.#fail(call, call.error ?? failure("not_connected", "timed out before the call could be sent", true));
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
