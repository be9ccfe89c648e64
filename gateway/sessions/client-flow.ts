import { TokenBucket, type BucketRate } from "../../shared/runtime/token-bucket.ts";

/** Past this many refused messages, which decay at the rate, the connection is reset. */
const maxRefused = 1_000;
/** Where too many messages wait for an answer. The next answer may come at any time. */
const openRetryMs = 1_000;

export type Passage =
  | { kind: "passed" }
  /** The time grows with earlier refusals, so that retries come one after the other. */
  | { kind: "refused"; retryAfterMs: number }
  | { kind: "flooding" };

/** Limits what one client sends: messages pass by their price, at a rate, with a burst. */
export class ClientFlow {
  readonly #bucket: TokenBucket;
  readonly #perSecond: number;
  readonly #maxOpen: number;
  #open = 0;
  /** Refused messages, and their price; both decay at the rate. */
  #refused = 0;
  #refusedCost = 0;
  #at: number;

  /** @param maxOpen messages that may wait for an answer. */
  constructor(rate: BucketRate, now: number, maxOpen = Number.POSITIVE_INFINITY) {
    this.#bucket = new TokenBucket(rate, now);
    this.#perSecond = rate.perSecond;
    this.#maxOpen = maxOpen;
    this.#at = now;
  }

  /** After `passed` the caller MUST call {@link answered} once. */
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

  /** @param surcharge cost of the message beyond its price. */
  answered(surcharge = 0): void {
    this.#open--;
    this.#bucket.owe(surcharge);
  }
}
