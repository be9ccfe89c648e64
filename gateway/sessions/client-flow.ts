import { TokenBucket, type BucketRate } from "../../shared/runtime/token-bucket.ts";

/** A connection that has sent so many more than it may, and does not stop, is cut. */
const maxRefused = 1_000;
/** Where too many wait for an answer, nobody knows when one will have come. */
const openRetryMs = 1_000;

export type Passage =
  | { kind: "passed" }
  /** The time counts those that were refused before: they return one after the other. */
  | { kind: "refused"; retryAfterMs: number }
  | { kind: "flooding" };

/** What one connection sends: let through by its price, at a rate, with room for a burst. */
export class ClientFlow {
  readonly #bucket: TokenBucket;
  readonly #perSecond: number;
  readonly #maxOpen: number;
  #open = 0;
  /** Refused messages, and what they cost; both less what could have been sent since. */
  #refused = 0;
  #refusedCost = 0;
  #at: number;

  /** @param maxOpen messages that may wait for their answer. */
  constructor(rate: BucketRate, now: number, maxOpen = Number.POSITIVE_INFINITY) {
    this.#bucket = new TokenBucket(rate, now);
    this.#perSecond = rate.perSecond;
    this.#maxOpen = maxOpen;
    this.#at = now;
  }

  /** Where it has passed, {@link answered} must be called once. */
  pass(now: number, price = 1): Passage {
    const accrued = ((now - this.#at) * this.#perSecond) / 1_000;
    this.#refused = Math.max(0, this.#refused - accrued);
    this.#refusedCost = Math.max(0, this.#refusedCost - accrued);
    this.#at = now;
    const isOpen = this.#open < this.#maxOpen;
    if (isOpen && this.#bucket.take(now, price)) {
      this.#open++;
      return { kind: "passed" };
    }
    if (++this.#refused > maxRefused) return { kind: "flooding" };
    if (!isOpen) return { kind: "refused", retryAfterMs: openRetryMs };
    this.#refusedCost += price;
    return { kind: "refused", retryAfterMs: Math.ceil((this.#refusedCost * 1_000) / this.#perSecond) };
  }

  /** @param surcharge what it has turned out to cost besides its price. */
  answered(surcharge = 0): void {
    this.#open--;
    this.#bucket.owe(surcharge);
  }
}
