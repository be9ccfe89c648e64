/** Tokens that accrue with time, up to a capacity. Times are ms of any one clock. */
export interface BucketRate {
  capacity: number;
  perSecond: number;
}

/** From here on a node saves up what comes within 50 ms in which nobody asked, or the process was busy. */
const burstFrom = 20;

/**
 * A rate under which no second, wherever it begins, sees more than `perSecond` tokens taken. What has been saved up and what
 * accrues within a second are at most that together; where it is too little to save anything, they are less than one more.
 * Several nodes whose rates change together keep to the sum of their rates in the same way, from 20 each.
 * A rate of less than one gives one token every 1/rate seconds.
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

  /** @param tokens that are there already. */
  constructor(rate: BucketRate, now: number, tokens = rate.capacity) {
    this.#rate = rate;
    this.#tokens = tokens;
    this.#at = now;
  }

  /** From now on. What has been saved up stays, as far as there is room for it. */
  change(rate: BucketRate, now: number): void {
    this.#accrue(now);
    this.#rate = rate;
    this.#tokens = Math.min(this.#tokens, rate.capacity);
  }

  /** @returns whether there were so many. */
  take(now: number, tokens = 1): boolean {
    this.#accrue(now);
    if (this.#tokens < tokens) return false;
    this.#tokens -= tokens;
    return true;
  }

  /** Takes them whether they are there or not: what accrues makes up for them first. */
  owe(tokens: number): void {
    this.#tokens -= tokens;
  }

  /** How many are there; negative where some are owed. */
  tokens(now: number): number {
    this.#accrue(now);
    return this.#tokens;
  }

  /** Until a token is there; infinite where none accrues. */
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
