/** When each session of a node that drains goes elsewhere: pure arithmetic, worked out again as the fleet changes. */
import { partForReconnects } from "../entrance/reconnect-window.ts";

/** Up to this load factor of the fullest of the others a drain is not held back. */
const easyFactor = 0.9;
/** From this one on it goes at the least pace. */
const fullFactor = 1.1;
const leastPace = 0.1;
const maxBalancerMs = 5_000;
const maxMarginMs = 5_000;

/** What the others can take. */
export interface Survivors {
  admissionsPerSecond: number;
  /** The highest load factor among them. */
  factor: number;
  /** Of all sessions that are being sent to them, the part that is this node's. */
  ourPart: number;
}

/** 1 while the others have room, down to 0.1 where the fullest of them is over its target. */
export function pace(factor: number): number {
  const over = (factor - easyFactor) / (fullFactor - easyFactor);
  return Math.min(1, Math.max(leastPace, 1 - over * (1 - leastPace)));
}

/**
 * Slots of the sessions of a node, numbered from 0: evenly spread over the time that the others need to take them, or over
 * the time there is, whichever is shorter. Times are ms from the beginning of the drain.
 */
export class SlotSchedule {
  readonly #count: number;
  readonly #lastSlotMs: number;
  #nowMs: number;
  /** Slots that have come up, the begun part of the next included. */
  #progress = 0;
  #perSecond = 0;
  #toldPerSecond = 0;

  /** @param options.lastSlotMs none is later, whatever the others can take. */
  constructor(options: { count: number; beginMs: number; lastSlotMs: number }) {
    this.#count = options.count;
    this.#nowMs = options.beginMs;
    this.#lastSlotMs = options.lastSlotMs;
  }

  /** Slots that have come up. */
  get due(): number {
    return Math.floor(this.#progress);
  }

  /** To be called often: the fleet of this moment says how fast it goes until the next call. */
  advance(nowMs: number, { admissionsPerSecond, factor, ourPart }: Survivors): void {
    this.#progress = Math.min(this.#count, this.#progress + (this.#perSecond * (nowMs - this.#nowMs)) / 1000);
    this.#nowMs = nowMs;
    if (nowMs >= this.#lastSlotMs) this.#progress = this.#count;
    const taken = partForReconnects * admissionsPerSecond * ourPart * pace(factor);
    const leftMs = Math.max(1, this.#lastSlotMs - nowMs);
    this.#perSecond = Math.max(taken, ((this.#count - this.#progress) * 1000) / leftMs);
  }

  /** From now until a slot comes up, as things are. */
  inMs(slot: number): number {
    return this.#perSecond === 0 ? 0 : Math.max(0, ((slot + 1 - this.#progress) * 1000) / this.#perSecond);
  }

  /** Slots are elsewhere than they were when that was told. */
  get hasShifted(): boolean {
    const ratio = this.#perSecond / this.#toldPerSecond;
    return this.due < this.#count && (ratio < 0.8 || ratio > 1.25);
  }

  told(): void {
    this.#toldPerSecond = this.#perSecond;
  }
}

/** How the time of a drain is divided, in ms from its beginning. */
export interface DrainTimes {
  /** Until the balancer sends nobody here any more. */
  balancerMs: number;
  /** The last slot. After it there is time for calls that are under way, and for who has not moved yet. */
  lastSlotMs: number;
  deadlineMs: number;
}

export function divideDrainTime(drainMs: number): DrainTimes {
  const balancerMs = Math.min(drainMs / 4, maxBalancerMs);
  return { balancerMs, lastSlotMs: drainMs - Math.min(drainMs / 5, maxMarginMs), deadlineMs: drainMs };
}
