/** The pace of a drain: when each session of the node moves to another node, recalculated as the fleet changes. Pure. */
import { partForReconnects } from "../entrance/reconnect-window.ts";

/** Up to this load factor of the fullest remaining node the drain runs at full pace. */
const fullPaceFactor = 0.9;
/** From this load factor on the drain runs at the lowest pace. */
const lowestPaceFactor = 1.1;
const lowestPace = 0.1;
const maxBalancerMs = 5_000;
const maxMarginMs = 5_000;

/** What the nodes that do not drain can take. */
export interface Survivors {
  admissionsPerSecond: number;
  /** The highest load factor among them. */
  factor: number;
  /** This node's part of all sessions that draining nodes send to them: 0 to 1. */
  ourPart: number;
}

/** 1 while the others have room, down to 0.1 where the fullest of them is over its target. */
export function pace(factor: number): number {
  const over = (factor - fullPaceFactor) / (lowestPaceFactor - fullPaceFactor);
  return Math.min(1, Math.max(lowestPace, 1 - over * (1 - lowestPace)));
}

/**
 * Move times of a node's sessions, numbered from 0: spread evenly over the time that the other nodes need to take them, or
 * over the available time, whichever is shorter. Times are ms from the beginning of the drain.
 */
export class DrainSchedule {
  readonly #count: number;
  readonly #lastMoveMs: number;
  #nowMs: number;
  /** Sessions whose move time has come, with the fraction of the next one. */
  #progress = 0;
  #perSecond = 0;
  #announcedPerSecond = 0;

  /** @param options.lastMoveMs latest move time, whatever the other nodes can take. */
  constructor(options: { count: number; beginMs: number; lastMoveMs: number }) {
    this.#count = options.count;
    this.#nowMs = options.beginMs;
    this.#lastMoveMs = options.lastMoveMs;
  }

  /** Number of sessions whose move time has come. */
  get due(): number {
    return Math.floor(this.#progress);
  }

  /** Call it often: the fleet as given sets the pace until the next call. */
  advance(nowMs: number, { admissionsPerSecond, factor, ourPart }: Survivors): void {
    this.#progress = Math.min(this.#count, this.#progress + (this.#perSecond * (nowMs - this.#nowMs)) / 1000);
    this.#nowMs = nowMs;
    if (nowMs >= this.#lastMoveMs) this.#progress = this.#count;
    const taken = partForReconnects * admissionsPerSecond * ourPart * pace(factor);
    const leftMs = Math.max(1, this.#lastMoveMs - nowMs);
    this.#perSecond = Math.max(taken, ((this.#count - this.#progress) * 1000) / leftMs);
  }

  /** Time until a session's move time, at the present pace. */
  inMs(index: number): number {
    return this.#perSecond === 0 ? 0 : Math.max(0, ((index + 1 - this.#progress) * 1000) / this.#perSecond);
  }

  /** The pace is more than a fifth lower, or a quarter higher, than the one that was last announced. */
  get hasShifted(): boolean {
    const ratio = this.#perSecond / this.#announcedPerSecond;
    return this.due < this.#count && (ratio < 0.8 || ratio > 1.25);
  }

  /** The present move times have been announced to the clients. */
  announced(): void {
    this.#announcedPerSecond = this.#perSecond;
  }
}

/** How the time of a drain is divided, in ms from its beginning. */
export interface DrainTimes {
  /** By then the balancer sends no more clients to this node. */
  balancerMs: number;
  /** Latest move time; the rest is for calls under way and for clients that have not moved yet. */
  lastMoveMs: number;
  deadlineMs: number;
}

export function divideDrainTime(drainMs: number): DrainTimes {
  const balancerMs = Math.min(drainMs / 4, maxBalancerMs);
  return { balancerMs, lastMoveMs: drainMs - Math.min(drainMs / 5, maxMarginMs), deadlineMs: drainMs };
}
