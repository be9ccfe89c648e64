import { ReturnSlots } from "./return-slots.ts";
import { type BucketRate, TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** Work on new connections that is done before the event loop turns to what else there is. */
const turnMs = 4;
/** Whoever would wait longer is refused at once; whoever has, then. */
const maxWaitMs = 2_000;
/** However little is let in, so many are told so in band. */
const minPerSecond = 100;
/** Looks again whether there is room after so long. */
const lookAgainMs = 10;

/** A connection that asks to be opened. */
export interface Arrival {
  /** It has given up. */
  readonly gone: boolean;
  open(): void;
  refuse(retryAfterSeconds: number): void;
}

/** Where an arrival comes from. */
export interface ArrivalOrigin {
  /** Too many come from there already. */
  crowds: boolean;
  /** Worked out for those that are refused only. */
  address: () => string;
}

interface Waiting {
  arrival: Arrival;
  origin: ArrivalOrigin;
  until: number;
}

/**
 * What stands before the websocket's door: opens connections in small slices, so that thousands that come at once hold
 * nobody up. Bounded: it opens twice as many a second as the node lets in, so that those who are refused are told in
 * band. Past that, connections are refused before they cost anything.
 */
export class UpgradeGate {
  readonly #hasRoom: () => boolean;
  readonly #onRefused: () => void;
  readonly #slots = new ReturnSlots();
  readonly #queue = new Set<Waiting>();
  readonly #bucket: TokenBucket;
  #perSecond = minPerSecond;
  #pump: { cancel: () => void } | undefined;
  /** Time spent on opening within this turn. */
  #spentMs = 0;
  #turnEnds = false;

  /**
   * @param options.hasRoom whether one more connection may be open without a seat.
   * @param options.onRefused counts.
   */
  constructor(options: { hasRoom: () => boolean; onRefused: () => void }) {
    this.#hasRoom = options.hasRoom;
    this.#onRefused = options.onRefused;
    this.#bucket = new TokenBucket(gateRate(minPerSecond), performance.now());
  }

  get waiting(): number {
    return this.#queue.size;
  }

  /** @param perSecond that the node lets in. */
  setRate(perSecond: number): void {
    this.#perSecond = Math.max(minPerSecond, 2 * perSecond);
    this.#bucket.change(gateRate(this.#perSecond), performance.now());
  }

  arrive(arrival: Arrival, origin: ArrivalOrigin): void {
    const now = performance.now();
    const waiting = { arrival, origin, until: now + maxWaitMs };
    if (origin.crowds) this.#refuse(waiting, now);
    else if (this.#queue.size === 0 && this.#mayOpen(now)) this.#open(arrival, now);
    else if (this.#queue.size >= (this.#perSecond * maxWaitMs) / 1_000) this.#refuse(waiting, now);
    else {
      this.#queue.add(waiting);
      this.#schedule(now);
    }
  }

  /** Nobody waits any more. */
  stop(): void {
    this.#pump?.cancel();
    this.#pump = undefined;
    for (const waiting of this.#queue) this.#refuse(waiting, performance.now());
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

  #refuse({ arrival, origin }: Waiting, now: number): void {
    this.#onRefused();
    const address = origin.address();
    const waitMs = this.#slots.take(now, { perSecond: this.#perSecond, notBeforeMs: maxWaitMs, address });
    arrival.refuse(Math.ceil(waitMs / 1_000));
  }

  #schedule(now: number): void {
    if (this.#pump) return;
    const waitMs = this.#hasRoom() ? this.#bucket.waitMs(now) : lookAgainMs;
    if (waitMs === 0) {
      const immediate = setImmediate(this.#work);
      this.#pump = { cancel: () => clearImmediate(immediate) };
    } else {
      const timer = setTimeout(this.#work, Math.min(waitMs, lookAgainMs));
      this.#pump = { cancel: () => clearTimeout(timer) };
    }
  }

  readonly #work = (): void => {
    this.#pump = undefined;
    for (const entry of this.#queue) {
      const now = performance.now();
      if (!entry.arrival.gone) {
        if (now < entry.until) {
          if (!this.#mayOpen(now)) break;
          this.#open(entry.arrival, now);
        } else this.#refuse(entry, now);
      }
      this.#queue.delete(entry);
    }
    if (this.#queue.size > 0) this.#schedule(performance.now());
  };
}

/** A second's worth may come at once. */
function gateRate(perSecond: number): BucketRate {
  return { capacity: perSecond, perSecond };
}
