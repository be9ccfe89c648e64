/**
 * Limits how many requests are in flight to a service: more while it answers quickly, fewer when it reports overload or takes
 * longer than usual. Pure.
 */

const firstLimit = 8;
/** The limit is multiplied by this when the service is overloaded. */
const backOff = 0.7;
/** Answers that take this many times as long as usual are a sign of overload. */
const slowFactor = 2;
/** Differences below this are noise. */
const slowMarginMs = 20;
/** Weight of one answer in the recent and in the usual time to answer. */
const recentWeight = 0.2;
const usualWeight = 0.01;
/**
 * The limit falls at most once within this time, or within the recent time to answer where that is longer: requests that were sent before the
 * fall say nothing about the new limit.
 */
const minPauseMs = 100;

export class AdaptiveLimit {
  readonly #max: number;
  #limit: number;
  #recentMs: number | undefined;
  #usualMs: number | undefined;
  #fellAt = -Infinity;

  /** @param max of the service's rule: `maxInFlight` */
  constructor(max: number) {
    this.#max = max;
    this.#limit = Math.min(firstLimit, max);
  }

  /** At least 1. */
  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** @param inFlight when the request was sent, itself included: a limit of which less than half is in use does not grow */
  succeeded(tookMs: number, inFlight: number, nowMs: number): void {
    this.#recentMs = average(this.#recentMs, tookMs, recentWeight);
    const usualMs = average(this.#usualMs, tookMs, tookMs < (this.#usualMs ?? Infinity) ? recentWeight : usualWeight);
    this.#usualMs = usualMs;
    if (this.#recentMs > slowFactor * usualMs + slowMarginMs) this.#fall(nowMs);
    else if (inFlight * 2 >= this.#limit) this.#limit = Math.min(this.#max, this.#limit + 1 / this.#limit);
  }

  /** 429, 503, or no answer in time. */
  overloaded(nowMs: number): void {
    this.#fall(nowMs);
  }

  #fall(nowMs: number): void {
    if (nowMs - this.#fellAt < Math.max(minPauseMs, this.#recentMs ?? 0)) return;
    this.#fellAt = nowMs;
    this.#limit = Math.max(1, this.#limit * backOff);
  }
}

function average(before: number | undefined, value: number, weight: number): number {
  return before === undefined ? value : before + (value - before) * weight;
}
