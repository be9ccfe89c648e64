/** How many of some places are taken, and how many were on average. Pure. */
export class Occupancy {
  #taken = 0;
  /** Places × ms since the last mean. */
  #used = 0;
  #changedAt: number;
  #from: number;

  /** @param nowMs of the caller's clock, which the other methods must use as well */
  constructor(nowMs: number) {
    this.#changedAt = nowMs;
    this.#from = nowMs;
  }

  get taken(): number {
    return this.#taken;
  }

  change(by: 1 | -1, nowMs: number): void {
    this.#used += this.#taken * (nowMs - this.#changedAt);
    this.#changedAt = nowMs;
    this.#taken += by;
  }

  /** Since the last call. */
  mean(nowMs: number): number {
    const elapsedMs = nowMs - this.#from;
    const used = this.#used + this.#taken * (nowMs - this.#changedAt);
    this.#used = 0;
    this.#changedAt = nowMs;
    this.#from = nowMs;
    return elapsedMs > 0 ? used / elapsedMs : this.#taken;
  }
}
