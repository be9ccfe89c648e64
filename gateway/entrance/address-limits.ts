import { networkOf } from "../../shared/http/network.ts";
import { ByAddress } from "./by-address.ts";
import { TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** Whose rate is known at a time. */
const maxAddresses = 50_000;

export interface AddressBounds {
  /** Seats at once; 0: any number. */
  connections: number;
  /** Connects, those that are refused included; 0: any number. */
  connectsPerSecond: number;
}

/** What one address may have of a node. An address of IPv6 counts as its /64: that is what one customer is given. */
export class AddressLimits {
  readonly #bounds: AddressBounds;
  readonly #seats = new Map<string, number>();
  /** Connections, with a seat or without. */
  readonly #open = new Map<string, number>();
  readonly #rates = new ByAddress<TokenBucket>({ isOver: (rate, now) => rate.isFull(now), maxAddresses });

  constructor(bounds: AddressBounds) {
    this.#bounds = bounds;
  }

  /** @returns undefined where it may connect, else how long it should wait. */
  checkMs(address: string, now: number): number | undefined {
    const { connections, connectsPerSecond } = this.#bounds;
    if (connectsPerSecond > 0) {
      const rate = { capacity: connectsPerSecond, perSecond: connectsPerSecond };
      const bucket = this.#rates.of(address, now, () => new TokenBucket(rate, now));
      if (!bucket.take(now)) return Math.ceil(bucket.waitMs(now));
    }
    return connections > 0 && (this.#seats.get(networkOf(address)) ?? 0) >= connections ? 0 : undefined;
  }

  takeSeat(address: string): void {
    if (this.#bounds.connections > 0) countUp(this.#seats, networkOf(address));
  }

  giveUpSeat(address: string): void {
    if (this.#bounds.connections > 0) countDown(this.#seats, networkOf(address));
  }

  /** Otherwise whose connections they are need not be known before they are seated. */
  get countsOpen(): boolean {
    return this.#bounds.connections > 0;
  }

  /** It has so many connections open that one more could only be in the way of others: twice its seats. */
  crowds(address: string): boolean {
    return (this.#open.get(networkOf(address)) ?? 0) >= 2 * this.#bounds.connections;
  }

  opened(address: string): void {
    countUp(this.#open, networkOf(address));
  }

  closed(address: string): void {
    countDown(this.#open, networkOf(address));
  }
}

function countUp(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function countDown(counts: Map<string, number>, key: string): void {
  const left = (counts.get(key) ?? 0) - 1;
  if (left > 0) counts.set(key, left);
  else counts.delete(key);
}
