/** The pace at which one node lets in, and the slots it gives to those it refuses. Pure: times come in. */
import { tickMs } from "./timers.ts";

/** A handshake waits so long at most to be let in. */
export const maxWaitMs = 5_000;
/** A refused client comes back in its slot, or so much later. */
const slotJitterMs = 250;
/** Without a share nobody knows when there will be a place: come back and see. */
const withoutShareMs = 5_000;

export class AdmissionPace {
  #perSecond = 0;
  #nextAtMs = 0;
  #nextSlotAtMs = 0;
  #upgradeCredit = 0;
  #upgradesCreditedAtMs = 0;

  get perSecond(): number {
    return this.#perSecond;
  }

  set perSecond(rate: number) {
    // What was promised at the old rate takes as many places of the new one.
    this.#perSecond = rate;
  }

  /** Takes the place where it is given: one after the other, and nothing saved up but what a tick holds. */
  admits(nowMs: number): boolean {
    if (this.#perSecond <= 0 || nowMs < this.#nextAtMs) return false;
    this.#nextAtMs = Math.max(this.#nextAtMs, nowMs - tickMs) + 1_000 / this.#perSecond;
    return true;
  }

  /** How long the last of so many waits. */
  waitMs(waiting: number): number {
    return this.#perSecond > 0 ? (waiting * 1_000) / this.#perSecond : Number.POSITIVE_INFINITY;
  }

  /** When somebody who is refused now should come back: after the line, and after everybody who got a slot before. */
  slotMs(nowMs: number, lineWaitMs: number, draw: number): number {
    if (this.#perSecond <= 0) return withoutShareMs * (0.5 + draw);
    this.#nextSlotAtMs = Math.max(this.#nextSlotAtMs, nowMs + lineWaitMs) + 1_000 / this.#perSecond;
    return this.#nextSlotAtMs - nowMs + draw * slotJitterMs;
  }

  /** Whether an upgrade is answered at all, or 503: the second rate. */
  opens(nowMs: number, upgradesPerSecond: number): boolean {
    const earned = ((nowMs - this.#upgradesCreditedAtMs) * upgradesPerSecond) / 1_000;
    this.#upgradesCreditedAtMs = nowMs;
    this.#upgradeCredit = Math.min(upgradesPerSecond / 10, this.#upgradeCredit + earned);
    if (this.#upgradeCredit < 1) return false;
    this.#upgradeCredit--;
    return true;
  }

  /** A new process. */
  reset(): void {
    this.#perSecond = 0;
    this.#nextAtMs = 0;
    this.#nextSlotAtMs = 0;
    this.#upgradeCredit = 0;
  }
}
