/** The gateway's default limit of the events on one connection (LIM-1). It closes a connection that sends far more. */
const atOnce = 100;
const perSecond = 50;

/** Says how many calls one connection may send now: 100 at once, then 50 a second. Sets no timer. */
export class CallPace {
  #left = atOnce;
  #atMs = performance.now();
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  /** What remains of the latest {@link hold}. */
  get heldMs(): number {
    return Math.max(0, this.#heldUntilMs - performance.now());
  }

  /** No call is sent for this time. A longer hold replaces a shorter one. */
  hold(ms: number): void {
    this.#heldUntilMs = Math.max(this.#heldUntilMs, performance.now() + ms);
  }

  /** False: not now. */
  take(): boolean {
    if (this.heldMs > 0) return false;
    const nowMs = performance.now();
    this.#left = Math.min(atOnce, this.#left + ((nowMs - this.#atMs) * perSecond) / 1_000);
    this.#atMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
