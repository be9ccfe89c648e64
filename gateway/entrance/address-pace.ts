import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import { TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { ByAddress } from "./by-address.ts";

/** Connections of one address without a session that open without a delay: at once, and per second. */
const rate = { capacity: 200, perSecond: 50 };
/** Connections that wait at a time; further ones do not wait. */
const maxDelayed = 1_000;

/**
 * Slows down an address that opens connections and begins no sessions: to open and close one costs the node more than its peer, and
 * a peer that leaves before the node cuts it meets no other bound. The addresses of clients that begin sessions are not affected.
 */
export class AddressPace {
  readonly #openings = new ByAddress<TokenBucket>({ isOver: (opening, now) => opening.isFull(now) });
  readonly #delay = new RefusalDelay(maxDelayed);

  /** Calls `open` now, or half a second later. */
  arrive(address: string, now: number, open: () => void): void {
    if (this.#openingsOf(address, now).take(now)) open();
    else this.#delay.before(open);
  }

  /** A session has begun over a connection of the address. */
  began(address: string, now: number): void {
    this.#openingsOf(address, now).owe(-1);
  }

  #openingsOf(address: string, now: number): TokenBucket {
    return this.#openings.of(address, now, () => new TokenBucket(rate, now));
  }
}
