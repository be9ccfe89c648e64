/** Runs the faults of one schedule: each affects a target that has no other fault, and heals itself. */
import { setTimeout as pause } from "node:timers/promises";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import type { Fault } from "./schedule-faults.ts";

/** By `performance.now()`. */
export interface LossWindow {
  readonly from: number;
  until: number;
}

/** A declared loss may show in what happened so much before and after: a settlement follows its answer after a while. */
export const lossMarginMs = 2_000;
const retryMs = 20;

export class FaultRunner {
  /** Kinds, in the order in which the faults began. */
  readonly kinds: string[] = [];
  readonly failures: string[] = [];
  /** What happened, with ms since the start. */
  readonly log: string[] = [];
  /** By `performance.now()`. */
  readonly startedAt = performance.now();
  /** Time of day, as servers print theirs. */
  readonly beganAt = new Date().toISOString();
  readonly #seed: string;
  readonly #random: SeededRandom;
  readonly #busy: Set<object>;
  readonly #lossWindows: LossWindow[];
  readonly #running = new Set<Promise<void>>();
  readonly #ending = new AbortController();

  /**
   * @param options.busy targets with a fault; schedules that share their targets share it
   * @param options.lossWindows gets an entry for each fault that may lose acknowledged writes
   */
  constructor(options: { seed: string; random: SeededRandom; busy: Set<object>; lossWindows: LossWindow[] }) {
    this.#seed = options.seed;
    this.#random = options.random;
    this.#busy = options.busy;
    this.#lossWindows = options.lossWindows;
  }

  /** @returns false where what the fault affects has another one. */
  begin(fault: Fault): boolean {
    const { targets, alsoAffected = [] } = fault;
    const free = targets.filter((target) => !this.#busy.has(target));
    if (free.length === 0 || alsoAffected.some((other) => this.#busy.has(other))) return false;
    const target = this.#random.pick(free);
    const affected = [target, ...alsoAffected];
    for (const each of affected) this.#busy.add(each);
    this.kinds.push(fault.kind);
    const window = { from: performance.now(), until: Infinity };
    if (fault.losesWrites) this.#lossWindows.push(window);
    const name = `${fault.kind}, target ${targets.indexOf(target) + 1}`;
    this.note(name);
    const own = new SeededRandom(`${this.#seed}/${this.kinds.length}`);
    const done = fault
      .run(target, own, this.#ending.signal)
      .catch((error: unknown) => void this.failures.push(`${fault.kind}: ${String(error)}`))
      .finally(() => {
        window.until = performance.now();
        this.note(`${name}: ends`);
        for (const each of affected) this.#busy.delete(each);
        this.#running.delete(done);
      });
    this.#running.add(done);
    return true;
  }

  /** Begins the fault once what it affects has no other one. */
  async beginOnceFree(fault: Fault): Promise<void> {
    while (!this.begin(fault)) await pause(retryMs);
  }

  async allEnd(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Heals what is broken. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.allEnd();
  }

  note(line: string): void {
    this.log.push(`${(performance.now() - this.startedAt).toFixed(0)} ${line}`);
  }
}

/** Within a declared loss. @param at by `performance.now()` */
export function isWithin(windows: readonly LossWindow[], at: number): boolean {
  return windows.some(({ from, until }) => at >= from - lossMarginMs && at <= until + lossMarginMs);
}
