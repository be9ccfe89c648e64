/** Tokens that accrue with time, up to a capacity. Times are ms of any one clock. */
export interface BucketRate {
  capacity: number;
  perSecond: number;
}

/** From this rate on, up to 50 ms worth of unused tokens are kept, e.g. from while the process was busy. */
const burstFrom = 20;

/**
 * A rate that lets at most `perSecond` tokens be taken in any second, wherever it begins: saved tokens and those that accrue
 * within a second add up to that. Below a rate of 20 it may be less than one token more. Nodes whose rates change together
 * keep to the sum of their rates in the same way, from 20 each. A rate below one gives one token every 1/rate seconds.
 */
export function neverMoreThan(perSecond: number): BucketRate {
  if (perSecond < 1) return { capacity: 1, perSecond };
  if (perSecond < burstFrom) return { capacity: 1, perSecond: Math.floor(perSecond) };
  const capacity = perSecond / burstFrom;
  return { capacity, perSecond: perSecond - capacity };
}

export class TokenBucket {
  #rate: BucketRate;
  #tokens: number;
  #at: number;

  /** @param tokens available at the start. */
  constructor(rate: BucketRate, now: number, tokens = rate.capacity) {
    this.#rate = rate;
    this.#tokens = tokens;
    this.#at = now;
  }

  /** Applies from now on. Saved tokens stay, up to the new capacity. */
  change(rate: BucketRate, now: number): void {
    this.#accrue(now);
    this.#rate = rate;
    this.#tokens = Math.min(this.#tokens, rate.capacity);
  }

  /** @returns false, and takes none, where there are too few. */
  take(now: number, tokens = 1): boolean {
    this.#accrue(now);
    if (this.#tokens < tokens) return false;
    this.#tokens -= tokens;
    return true;
  }

  /** Takes tokens even if there are too few; the balance may become negative. */
  owe(tokens: number): void {
    this.#tokens -= tokens;
  }

  /** The balance; negative while tokens are owed. */
  tokens(now: number): number {
    this.#accrue(now);
    return this.#tokens;
  }

  /** Time until one token is available; Infinity at a rate of 0. */
  waitMs(now: number): number {
    this.#accrue(now);
    return this.#tokens >= 1 ? 0 : ((1 - this.#tokens) * 1_000) / this.#rate.perSecond;
  }

  isFull(now: number): boolean {
    this.#accrue(now);
    return this.#tokens >= this.#rate.capacity;
  }

  #accrue(now: number): void {
    const { capacity, perSecond } = this.#rate;
    const accrued = (Math.max(0, now - this.#at) * perSecond) / 1_000;
    this.#tokens = Math.min(capacity, this.#tokens + accrued);
    this.#at = Math.max(this.#at, now);
  }
}
