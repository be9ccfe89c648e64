import { ByAddress } from "./by-address.ts";

/** Nobody is told to wait longer; clients beyond it return somewhere in the second half of it. */
const horizonMs = 600_000;
/** Part of the wait by which reconnect times are moved at random: those of several nodes do not fall together. */
const jitter = 0.05;
/** The longest line in which an address may have more than one place. */
const sharedLineMs = 5_000;

/** Reconnect times are given one after the other, at a rate. */
interface Line {
  next: number;
}

interface AddressPlaces {
  /** The last reconnect time of the address. */
  until: number;
  /** Of an address that has had more than its part. */
  ownLine: Line | undefined;
}

/**
 * When clients that are refused come back: each at a reconnect time of its own, one after the other at a rate, so that so many
 * of them need as long as admitting them does.
 *
 * An address that is refused again and again makes nobody else wait: it has one place in the line that all share, and more
 * only while that line is short. Its other reconnect times form a line of their own, as an address may stand for many clients.
 * All these lines have the rate once more between them.
 */
export class ReturnSlots {
  readonly #horizonMs: number;
  readonly #random: () => number;
  readonly #line: Line = { next: 0 };
  /** An address whose reconnect times are all past has none. */
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
   * @param options.notBeforeMs from now: until then, others are let in.
   * @param options.address of the client; undefined: it is known that each client has one of its own.
   * @returns how long to wait for the reconnect time that was taken, whole ms.
   */
  take(now: number, options: { perSecond: number; notBeforeMs: number; address?: string }): number {
    const { perSecond, notBeforeMs, address } = options;
    const places =
      address === undefined ? undefined : this.#places.of(address, now, () => ({ until: 0, ownLine: undefined }));
    const earliest = now + notBeforeMs;
    const line = places ? this.#lineFor(places, { earliest, perSecond }) : this.#line;
    const lines = line === this.#line ? 1 : this.#ownLines;
    const slot = Math.max(line.next, earliest);
    const waitMs = slot - now;
    if (waitMs > this.#horizonMs) return Math.ceil((this.#horizonMs * (1 + this.#random())) / 2);
    line.next = slot + (1_000 * lines) / perSecond;
    if (places) places.until = Math.max(places.until, slot);
    return Math.min(this.#horizonMs, Math.ceil(waitMs * (1 + jitter * this.#random())));
  }

  #lineFor(places: AddressPlaces, { earliest, perSecond }: { earliest: number; perSecond: number }): Line {
    if (places.ownLine) return places.ownLine;
    const isFirst = places.until === 0;
    if (isFirst || this.#line.next - earliest < sharedLineMs) return this.#line;
    this.#ownLines++;
    places.ownLine = { next: places.until + 1_000 / perSecond };
    return places.ownLine;
  }
}
