/**
 * How busy dispatchers are, and how many the work needs.
 *
 * Busy workers alone do not say how much more work there is: while items wait, all workers are busy, with any number of
 * dispatchers. The age of the oldest ready item says it. Where it grows by g ms per ms, only 1 − g of what arrives is worked
 * off (first in, first out), so the work is 1 / (1 − g) times that of the workers in use. Where it falls (g < 0) the fleet is
 * already larger than the work needs, although all workers are busy: no further dispatchers are asked for.
 *
 * What waits counts only while the dispatchers are at their target or above. Otherwise it waits for a service, or behind other
 * items of its key, and more dispatchers would not help.
 */
import { pNorm, utilisationTargets } from "./factor.ts";
import { smoothedValue } from "./smoothing.ts";

/** Of a class's workers and of a service's places that a dispatcher may use. */
const placesTarget = 0.8;
/** Age of the oldest ready item at which the factor counts it as full. */
const oldestTargetMs = 10_000;
/** What waits is to be worked off within this. */
const catchUpMs = 60_000;
/** Fewer dispatchers than now must be able to carry this many times the work. */
const margin = 1.2;
/** Bound against wrong measurements: at most this many times the dispatchers, plus a few. */
const mostTimes = 2;
const mostFurther = 2;
/** Share of busy places from which on all of them count as busy. */
const allBusy = 0.99;

/** Of one dispatcher, smoothed: 99 % of a step shows after 10 s. */
export interface DispatchLoad {
  /** Used ÷ allowed of what is fullest: 1.0 is at target. */
  readonly busy: number;
  /** Age of the oldest item at its first attempt. */
  readonly oldestMs: number;
  /** By which the mean age of these items grows per ms; negative where it falls. */
  readonly growth: number;
}

export interface Ages {
  oldestMs: number;
  meanMs: number;
}

const noAges: Ages = { oldestMs: 0, meanMs: 0 };

export interface DispatchUsage {
  /** The largest share of busy workers of a class, or of a service's places that are in use. */
  places: number;
  /** Share of the time in which the event loop was busy. */
  eventLoop: number;
  /** Of the items that were tried for the first time; undefined: there was none. */
  ages: Ages | undefined;
}

export const idleDispatcher: DispatchLoad = { busy: 0, oldestMs: 0, growth: 0 };

/** Measures one dispatcher. */
export class DispatchMeter {
  #load: DispatchLoad | undefined;
  #ages = noAges;
  #smoothedMeanMs = 0;

  get load(): DispatchLoad {
    return this.#load ?? idleDispatcher;
  }

  /** @param elapsedMs since the sample before */
  sample({ places, eventLoop, ages }: DispatchUsage, elapsedMs: number): void {
    // Where no worker became free what waits became older.
    const untried = places >= allBusy ? older(this.#ages, elapsedMs) : noAges;
    this.#ages = ages ?? untried;
    const { oldestMs, meanMs } = this.#ages;
    const busy = Math.max(places / placesTarget, eventLoop / utilisationTargets.eventLoop);
    // A dispatcher that joins has seen nothing grow.
    const last = this.#load ?? { ...idleDispatcher, oldestMs };
    if (!this.#load) this.#smoothedMeanMs = meanMs;
    // The mean of many items varies less than the oldest of them.
    const smoothedMeanMs = smoothedValue(this.#smoothedMeanMs, meanMs, elapsedMs);
    const growth = (smoothedMeanMs - this.#smoothedMeanMs) / elapsedMs;
    this.#smoothedMeanMs = smoothedMeanMs;
    this.#load = {
      busy: smoothedValue(last.busy, busy, elapsedMs),
      oldestMs: smoothedValue(last.oldestMs, oldestMs, elapsedMs),
      growth: smoothedValue(last.growth, growth, elapsedMs),
    };
  }
}

function older({ oldestMs, meanMs }: Ages, byMs: number): Ages {
  return { oldestMs: oldestMs + byMs, meanMs: meanMs + byMs };
}

export interface DispatchersLoad {
  /** 1.0 is at target; 0 without dispatchers. */
  factor: number;
  /** At least 1. */
  desired: number;
}

/** The load of all dispatchers together. */
export function dispatchersLoad(loads: readonly DispatchLoad[]): DispatchersLoad {
  const count = loads.length;
  if (count === 0) return { factor: 0, desired: 1 };
  const work = loads.reduce((sum, { busy }) => sum + busy, 0);
  const busy = work / count;
  const oldestMs = Math.max(...loads.map(({ oldestMs }) => oldestMs));
  const factor = pNorm([busy, Math.min(busy, oldestMs / oldestTargetMs)]);
  const growth = loads.reduce((sum, { growth }) => sum + growth, 0) / count;
  const further = busy < 1 ? 1 : 1 / Math.max(1 / mostTimes, 1 - growth);
  const catchUp = busy < 1 ? 1 : 1 + Math.min(1, oldestMs / catchUpMs);
  const atLeast = Math.ceil(work * further * catchUp);
  const atMost = Math.ceil(work * Math.max(1, further) * catchUp * margin);
  const desired = Math.max(atLeast, Math.min(count, atMost));
  return { factor, desired: Math.max(1, Math.min(desired, mostTimes * count + mostFurther)) };
}
