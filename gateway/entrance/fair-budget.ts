import { ByAddress } from "./by-address.ts";
import { TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** The last part of the budget is reserved for addresses that have used less than their own part. */
const reservedPart = 0.2;
/** The own part of one address: of the rate, and of the burst. */
const partOfAddress = 0.1;

/**
 * A rate that all addresses share. One address may use most of it, as it may stand for many clients. When the budget becomes
 * scarce, addresses that have asked for little go first; an address that asks without end gets what they leave.
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
    const isModest = this.#partOf(address, now).take(now);
    const reserved = isModest ? 0 : this.#perSecond * reservedPart;
    return this.#bucket.tokens(now) >= reserved + 1 && this.#bucket.take(now);
  }

  /** Charges an address more, after the fact. */
  owe(address: string, tokens: number, now: number): void {
    this.#bucket.owe(tokens);
    this.#partOf(address, now).owe(tokens);
  }

  #partOf(address: string, now: number): TokenBucket {
    const perSecond = Math.max(1, this.#perSecond * partOfAddress);
    return this.#parts.of(address, now, () => new TokenBucket({ capacity: perSecond, perSecond }, now));
  }
}
