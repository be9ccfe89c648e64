import { networkOf } from "../../shared/network.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Addresses whose rate is known at a time; past it the one that was seen first is forgotten. */
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
  readonly #rates = new Map<string, TokenBucket>();

  constructor(bounds: AddressBounds) {
    this.#bounds = bounds;
  }

  /** @returns undefined where it may connect, else how long it should wait. */
  checkMs(address: string, now: number): number | undefined {
    const { connections, connectsPerSecond } = this.#bounds;
    const key = networkOf(address);
    if (connectsPerSecond > 0) {
      const bucket = this.#rateOf(key, now);
      if (!bucket.take(now)) return Math.ceil(bucket.waitMs(now));
    }
    return connections > 0 && (this.#seats.get(key) ?? 0) >= connections ? 0 : undefined;
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

  #rateOf(key: string, now: number): TokenBucket {
    const { connectsPerSecond } = this.#bounds;
    let bucket = this.#rates.get(key);
    if (!bucket) {
      this.#forget(now);
      bucket = new TokenBucket({ capacity: connectsPerSecond, perSecond: connectsPerSecond }, now);
      this.#rates.set(key, bucket);
    }
    return bucket;
  }

  /** The oldest where it says nothing any more, or there are too many: two for each that comes keep the map small. */
  #forget(now: number): void {
    let looked = 0;
    for (const [key, bucket] of this.#rates) {
      if (bucket.isFull(now) || this.#rates.size >= maxAddresses) this.#rates.delete(key);
      if (++looked === 2) return;
    }
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
