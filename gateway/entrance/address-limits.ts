import { networkOf } from "../../shared/http/network.ts";
import { ByAddress } from "./by-address.ts";
import { Counts } from "../../shared/runtime/counts.ts";
import { TokenBucket } from "../../shared/runtime/token-bucket.ts";

/** Addresses whose connect rate is kept at a time. */
const maxAddresses = 50_000;

export interface AddressBounds {
  /** Seats at a time; 0: no bound. */
  connections: number;
  /** Connects, refused ones included; 0: no bound. */
  connectsPerSecond: number;
}

/** What one address may use of a node. An IPv6 address counts as its /64: a customer of a provider is given that much. */
export class AddressLimits {
  readonly #bounds: AddressBounds;
  readonly #seats = new Counts<string>();
  /** Open connections, with a seat or without. */
  readonly #open = new Counts<string>();
  readonly #rates = new ByAddress<TokenBucket>({ isOver: (rate, now) => rate.isFull(now), maxAddresses });
  readonly #openings = new ByAddress<TokenBucket>({ isOver: (rate, now) => rate.isFull(now), maxAddresses });

  constructor(bounds: AddressBounds) {
    this.#bounds = bounds;
  }

  /**
   * Counts one handshake.
   * @returns undefined: the address may connect; otherwise how long it should wait, where 0 means until a seat is free.
   */
  checkMs(address: string, now: number): number | undefined {
    const { connections, connectsPerSecond } = this.#bounds;
    if (connectsPerSecond > 0) {
      const bucket = bucketOf(this.#rates, address, now, connectsPerSecond);
      if (!bucket.take(now)) return Math.ceil(bucket.waitMs(now));
    }
    return connections > 0 && this.#seats.of(networkOf(address)) >= connections ? 0 : undefined;
  }

  takeSeat(address: string): void {
    if (this.#bounds.connections > 0) this.#seats.add(networkOf(address), 1);
  }

  giveUpSeat(address: string): void {
    if (this.#bounds.connections > 0) this.#seats.add(networkOf(address), -1);
  }

  /**
   * Counts one request for a connection.
   * @returns whether its address has twice as many open connections as it may have seats, or opens twice as many a second as it
   * may begin sessions: another one could only delay others.
   */
  isCrowded(client: { readonly address: string }, now: number): boolean {
    const { connections, connectsPerSecond } = this.#bounds;
    if (connectsPerSecond > 0 && !bucketOf(this.#openings, client.address, now, 2 * connectsPerSecond).take(now))
      return true;
    return connections > 0 && this.#open.of(networkOf(client.address)) >= 2 * connections;
  }

  opened(address: string): void {
    if (this.#bounds.connections > 0) this.#open.add(networkOf(address), 1);
  }

  closed(address: string): void {
    if (this.#bounds.connections > 0) this.#open.add(networkOf(address), -1);
  }
}

/** A burst of one second's worth. */
function bucketOf(rates: ByAddress<TokenBucket>, address: string, now: number, perSecond: number): TokenBucket {
  return rates.of(address, now, () => new TokenBucket({ capacity: perSecond, perSecond }, now));
}
