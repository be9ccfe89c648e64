import { ByAddress } from "./by-address.ts";

/** The longest wait. Past it, clients get a random time in its second half. */
const horizonMs = 600_000;
/** A random part of the wait on top, which keeps the reconnect times of several nodes from coinciding. */
const spread = 0.05;
/** An address may have several places in the common line while the line is shorter than this. */
const sharedLineMs = 5_000;

/** Reconnect times in order, at a rate. */
interface Line {
  nextAt: number;
}

interface AddressPlaces {
  /** The last reconnect time of the address. */
  until: number;
  /** Of an address that has had more than its part. */
  ownLine: Line | undefined;
}

/**
 * Gives each client that is refused a reconnect time of its own (its `retryAfterMs`), one after the other at a rate: the clients
 * reconnect no faster than the node admits them.
 *
 * An address with many refusals delays no other: it has one place in the common line, and more only while that
 * line is short. Its further reconnect times form a line of their own, as an address may stand for many clients. All these
 * lines together have the rate a second time.
 */
export class ReconnectTimes {
  readonly #horizonMs: number;
  readonly #random: () => number;
  readonly #line: Line = { nextAt: 0 };
  /** Addresses with a reconnect time that has not passed. */
  readonly #places = new ByAddress<AddressPlaces>({
    isOver: ({ until }, now) => until <= now,
    onForgotten: ({ ownLine }) => {
      if (ownLine) this.#ownLines--;
    },
  });
  /** Addresses with a line of their own. */
  #ownLines = 0;

  /** @param options.random from 0, below 1. */
  constructor(options: { random?: () => number; horizonMs?: number } = {}) {
    this.#random = options.random ?? Math.random;
    this.#horizonMs = options.horizonMs ?? horizonMs;
  }

  /**
   * Takes the next reconnect time.
   * @param options.notBeforeMs from now: earlier times belong to clients that wait already.
   * @param options.address of the client; undefined: each client is known to have an address of its own.
   * @returns how long to wait for it, whole ms.
   */
  take(now: number, options: { perSecond: number; notBeforeMs: number; address?: string }): number {
    const { perSecond, notBeforeMs, address } = options;
    const places =
      address === undefined ? undefined : this.#places.of(address, now, () => ({ until: 0, ownLine: undefined }));
    const earliest = now + notBeforeMs;
    const line = places ? this.#lineFor(places, { earliest, perSecond }) : this.#line;
    const lines = line === this.#line ? 1 : this.#ownLines;
    const reconnectAt = Math.max(line.nextAt, earliest);
    const waitMs = reconnectAt - now;
    if (waitMs > this.#horizonMs) return Math.ceil((this.#horizonMs * (1 + this.#random())) / 2);
    line.nextAt = reconnectAt + (1_000 * lines) / perSecond;
    if (places) places.until = Math.max(places.until, reconnectAt);
    return Math.min(this.#horizonMs, Math.ceil(waitMs * (1 + spread * this.#random())));
  }

  #lineFor(places: AddressPlaces, { earliest, perSecond }: { earliest: number; perSecond: number }): Line {
    if (places.ownLine) return places.ownLine;
    const isFirst = places.until === 0;
    if (isFirst || this.#line.nextAt - earliest < sharedLineMs) return this.#line;
    this.#ownLines++;
    places.ownLine = { nextAt: places.until + 1_000 / perSecond };
    return places.ownLine;
  }
}
