import { TokenBucket, type BucketRate } from "./token-bucket.ts";

/** Who has sent so many more than it may, and goes on, is cut. */
const maxExcess = 1_000;

export type Passage =
  | { kind: "passed" }
  /** Those that were refused before it count, too: they come back one after the other. */
  | { kind: "refused"; retryAfterMs: number }
  | { kind: "flooding" };

/** What one connection sends: let through at a rate, with room for a burst. */
export class ClientFlow {
  readonly #bucket: TokenBucket;
  readonly #perSecond: number;
  /** Refused, less what could have been sent since. */
  #excess = 0;
  #at: number;

  constructor(rate: BucketRate, now: number) {
    this.#bucket = new TokenBucket(rate, now);
    this.#perSecond = rate.perSecond;
    this.#at = now;
  }

  pass(now: number): Passage {
    this.#excess = Math.max(0, this.#excess - ((now - this.#at) * this.#perSecond) / 1_000);
    this.#at = now;
    if (this.#bucket.take(now)) return { kind: "passed" };
    this.#excess++;
    if (this.#excess > maxExcess) return { kind: "flooding" };
    return { kind: "refused", retryAfterMs: Math.ceil((this.#excess * 1_000) / this.#perSecond) };
  }
}
