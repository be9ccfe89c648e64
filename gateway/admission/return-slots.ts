/** Further ahead nobody is sent: they come back somewhere in the second half of it. */
export const horizonMs = 600_000;
/** Part of the wait by which slots are moved at random: those of several nodes do not fall together. */
const jitter = 0.05;

/**
 * When those who are not let in come back: each has a slot of its own, one after the other at a rate, so that so many of
 * them need as long as letting them in does.
 */
export class ReturnSlots {
  readonly #random: () => number;
  #next = 0;

  /** @param random from 0, below 1. */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /**
   * @param options.notBeforeMs from now: until then, others are let in.
   * @returns how long to wait for the slot that was taken, whole ms.
   */
  take(now: number, options: { perSecond: number; notBeforeMs: number }): number {
    const slot = Math.max(this.#next, now + options.notBeforeMs);
    const waitMs = slot - now;
    if (waitMs > horizonMs) return Math.ceil((horizonMs * (1 + this.#random())) / 2);
    this.#next = slot + 1_000 / options.perSecond;
    return Math.min(horizonMs, Math.ceil(waitMs * (1 + jitter * this.#random())));
  }
}
