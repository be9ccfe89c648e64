/** A longer round trip means a stall, of this process or on the way. */
const maxRoundTripMs = 1_000;

/** The clock of a store, estimated from its replies and never ahead of it. The clock of this machine may step at any time: only durations are its own. */
export class StoreClock {
  /** The store's clock minus `performance.now()`. Undefined before the first reply: until then it is the clock of this machine. */
  #offsetMs: number | undefined;

  /** Unix ms. */
  now(): number {
    return Math.floor(performance.now() + (this.#offsetMs ?? performance.timeOrigin));
  }

  /** @param storeNow what the store's clock showed between `askedAt`, by `performance.now()`, and now */
  set(storeNow: number, askedAt: number): void {
    const readAt = performance.now();
    const [least, most] = [storeNow - readAt, storeNow - askedAt];
    const known = this.#offsetMs;
    // The time of a late reply may be long past. The estimate stays unless the reply contradicts it.
    if (known !== undefined && readAt - askedAt > maxRoundTripMs && least <= known && known <= most) return;
    this.#offsetMs = least;
  }
}
