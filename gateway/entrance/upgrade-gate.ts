import { ReconnectTimes } from "./reconnect-times.ts";
import { type BucketRate, TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** Time spent on opening connections in one turn of the event loop. */
const turnMs = 4;
/** Longest wait at the gate; an arrival that would exceed it is refused up front. */
const maxWaitMs = 2_000;
/** The gate opens at least so many per second, however small the node's share: over an open connection a refusal says why. */
const minPerSecond = 100;
/** Pause between two looks for room. */
const lookAgainMs = 10;

/** A client's request for a connection. */
export interface Arrival {
  /** Of the client; computed at each access. */
  readonly address: string;
  /** The client has gone away. */
  readonly gone: boolean;
  open(): void;
  refuse(retryAfterSeconds: number): void;
}

interface Waiting {
  arrival: Arrival;
  until: number;
}

/**
 * Opens connections in small slices, so that thousands of arrivals delay no session. Bounded: opens twice as many per second
 * as the node admits: as many again can be refused over their connection, with the reason. The gate refuses any more before
 * they cost more than a request.
 */
export class UpgradeGate {
  readonly #hasRoom: () => boolean;
  readonly #onRefused: () => void;
  readonly #reconnectTimes = new ReconnectTimes();
  readonly #queue = new Set<Waiting>();
  readonly #bucket: TokenBucket;
  #perSecond = minPerSecond;
  #scheduled: { cancel: () => void } | undefined;
  /** Time spent on opening within this turn. */
  #spentMs = 0;
  #turnEnds = false;
  #stopped = false;

  /**
   * @param options.hasRoom whether one more connection may be open without a seat.
   * @param options.onRefused called for each arrival that is refused.
   */
  constructor(options: { hasRoom: () => boolean; onRefused: () => void }) {
    this.#hasRoom = options.hasRoom;
    this.#onRefused = options.onRefused;
    this.#bucket = new TokenBucket(gateRate(minPerSecond), performance.now());
  }

  get waiting(): number {
    return this.#queue.size;
  }

  /** @param admissionsPerSecond of the node. */
  setRate(admissionsPerSecond: number): void {
    this.#perSecond = Math.max(minPerSecond, 2 * admissionsPerSecond);
    this.#bucket.change(gateRate(this.#perSecond), performance.now());
  }

  /** @param isCrowded the address has, or opens, too many connections. */
  arrive(arrival: Arrival, isCrowded: boolean): void {
    const now = performance.now();
    if (isCrowded || this.#stopped) this.#refuse(arrival, now);
    else if (this.#queue.size === 0 && this.#mayOpen(now)) this.#open(arrival, now);
    else if (this.#queue.size >= (this.#perSecond * maxWaitMs) / 1_000) this.#refuse(arrival, now);
    else {
      this.#queue.add({ arrival, until: now + maxWaitMs });
      this.#schedule(now);
    }
  }

  /** Final. Refuses every arrival, also those that wait: a connection that opened now would delay the stop of its door. */
  stop(): void {
    this.#stopped = true;
    this.#scheduled?.cancel();
    this.#scheduled = undefined;
    for (const { arrival } of this.#queue) this.#refuse(arrival, performance.now());
    this.#queue.clear();
  }

  #mayOpen(now: number): boolean {
    return this.#spentMs < turnMs && this.#hasRoom() && this.#bucket.take(now);
  }

  #open(arrival: Arrival, startedAt: number): void {
    arrival.open();
    this.#spentMs += performance.now() - startedAt;
    if (this.#turnEnds) return;
    this.#turnEnds = true;
    setImmediate(() => {
      this.#turnEnds = false;
      this.#spentMs = 0;
    });
  }

  #refuse(arrival: Arrival, now: number): void {
    this.#onRefused();
    const { address } = arrival;
    const waitMs = this.#reconnectTimes.take(now, { perSecond: this.#perSecond, notBeforeMs: maxWaitMs, address });
    arrival.refuse(Math.ceil(waitMs / 1_000));
  }

  #schedule(now: number): void {
    if (this.#scheduled) return;
    const waitMs = this.#hasRoom() ? this.#bucket.waitMs(now) : lookAgainMs;
    if (waitMs === 0) {
      const immediate = setImmediate(this.#work);
      this.#scheduled = { cancel: () => clearImmediate(immediate) };
    } else {
      const timer = setTimeout(this.#work, Math.min(waitMs, lookAgainMs));
      this.#scheduled = { cancel: () => clearTimeout(timer) };
    }
  }

  readonly #work = (): void => {
    this.#scheduled = undefined;
    for (const waiting of this.#queue) {
      const { arrival, until } = waiting;
      const now = performance.now();
      if (!arrival.gone) {
        if (now < until) {
          if (!this.#mayOpen(now)) break;
          this.#open(arrival, now);
        } else this.#refuse(arrival, now);
      }
      this.#queue.delete(waiting);
    }
    if (this.#queue.size > 0) this.#schedule(performance.now());
  };
}

/** Allows a burst of one second's worth. */
function gateRate(perSecond: number): BucketRate {
  return { capacity: perSecond, perSecond };
}
