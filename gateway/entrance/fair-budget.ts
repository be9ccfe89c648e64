import { ByAddress } from "./by-address.ts";
import { TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** The last part of the budget is for addresses that have had less than their own part. */
const reservedPart = 0.2;
/** What one address may have a second, and at once, of that. */
const partOfAddress = 0.1;

/**
 * A budget for whoever asks. While there is enough of it, one address may use it up, as it may stand for many clients. When it
 * becomes scarce, addresses that have asked for little go first: one that asks without end gets what they leave.
 */
export class FairBudget {
  readonly #perSecond: number;
  readonly #bucket: TokenBucket;
  readonly #parts = new ByAddress<TokenBucket>({ isOver: (part, now) => part.isFull(now) });

  constructor(perSecond: number, now: number) {
    this.#perSecond = perSecond;
    this.#bucket = new TokenBucket({ capacity: perSecond, perSecond }, now);
  }

  take(address: string, now: number): boolean {
    const hasAskedForLittle = this.#partOf(address, now).take(now);
    const reserved = hasAskedForLittle ? 0 : this.#perSecond * reservedPart;
    return this.#bucket.tokens(now) >= reserved + 1 && this.#bucket.take(now);
  }

  /** What it took has turned out to cost more. */
  owe(address: string, tokens: number, now: number): void {
    this.#bucket.owe(tokens);
    this.#partOf(address, now).owe(tokens);
  }

  #partOf(address: string, now: number): TokenBucket {
    const perSecond = Math.max(1, this.#perSecond * partOfAddress);
    return this.#parts.of(address, now, () => new TokenBucket({ capacity: perSecond, perSecond }, now));
  }
}
