/**
 * What single inputs cost: the CPU time of a process's main thread from an input until it rests again, which does not depend
 * on what else the machine does; and, for the costliest, the longest turn of its event loop.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Arena } from "./arena.ts";
import type { Input } from "./input.ts";
import { Inspector } from "./inspector.ts";
import type { ProcessWatch } from "./process-watch.ts";
import { isAuthenticated, type Target } from "./targets.ts";

/** A process that used so little of so long rests: the honest client costs about that. */
const restMs = 4;
const restingCpuMs = 1;
const restWithinMs = 60_000;
/** What an input causes is over by then, where it is not known when the process rests. */
const afterwardsMs = 100;
/** The smallest of so many tries is the input's own cost. */
const tries = 3;
/** What costs less in all is not measured again, nor turn by turn. */
const worthMs = 10;

export const limits = { unauthenticated: 20, authenticated: 50 } as const;
export type Standing = keyof typeof limits;

export interface Costly {
  readonly process: string;
  readonly target: string;
  readonly standing: Standing;
  /** CPU time of the longest turn of the event loop; of a cheap input, that of all turns. */
  readonly turnMs: number;
  /** Of all turns together. */
  readonly totalMs: number;
  readonly input: Input;
}

export class CostMeter {
  readonly #arena: Arena;
  readonly #inspectors: ReadonlyMap<ProcessWatch, Inspector>;
  /** The costliest so far, by process, target and standing. */
  readonly worst: Map<string, Costly>;
  measured = 0;

  private constructor(arena: Arena, inspectors: ReadonlyMap<ProcessWatch, Inspector>, worst: Map<string, Costly>) {
    this.#arena = arena;
    this.#inspectors = inspectors;
    this.worst = worst;
  }

  static async open(arena: Arena, worst: Map<string, Costly>): Promise<CostMeter> {
    const inspectors = new Map<ProcessWatch, Inspector>();
    for (const watch of arena.watches) inspectors.set(watch, await Inspector.attach(watch.server));
    return new CostMeter(arena, inspectors, worst);
  }

  close(): void {
    for (const inspector of this.#inspectors.values()) inspector.close();
  }

  /** @returns what it costs, where that is the most of its kind so far. */
  async measure(target: Target, input: Input): Promise<Costly[]> {
    this.measured++;
    const standing = isAuthenticated(input) ? "authenticated" : "unauthenticated";
    const totals = await this.#totals(input);
    const records: Costly[] = [];
    if (this.#arena.hasDead) return records;
    for (const watch of this.#arena.watches) {
      const kind = `${watch.server.role} ${target.name} ${standing}`;
      const mostMs = this.worst.get(kind)?.turnMs ?? 0;
      let totalMs = totals.get(watch) ?? 0;
      for (let left = tries - 1; left > 0 && totalMs > Math.max(mostMs, worthMs); left--) {
        totalMs = Math.min(totalMs, (await this.#totals(input)).get(watch) ?? 0);
      }
      if (totalMs <= mostMs || this.#arena.hasDead) continue;
      const turnMs = totalMs <= worthMs ? totalMs : await this.#longestTurn(watch, input);
      // Not a number where the process has ended.
      if (!(turnMs > mostMs)) continue;
      const costly = { process: watch.server.role, target: target.name, standing, turnMs, totalMs, input } as const;
      this.worst.set(kind, costly);
      records.push(costly);
    }
    return records;
  }

  /** Whether it costs a process more than so much, each time. */
  async costsMore(input: Input, process: string, ms: number): Promise<boolean> {
    const watch = this.#arena.watches.find(({ server }) => server.role === process);
    if (!watch) return false;
    for (let left = tries; left > 0; left--) {
      if (((await this.#totals(input)).get(watch) ?? 0) <= ms) return false;
    }
    return (await this.#longestTurn(watch, input)) > ms;
  }

  async #totals(input: Input): Promise<Map<ProcessWatch, number>> {
    const { watches } = this.#arena;
    let before: number[] = [];
    await this.#arena.play(input, async () => {
      await this.#rest();
      before = watches.map((watch) => watch.mainThreadMs);
    });
    await this.#rest();
    return new Map(watches.map((watch, index) => [watch, watch.mainThreadMs - (before[index] ?? Number.NaN)]));
  }

  async #longestTurn(watch: ProcessWatch, input: Input): Promise<number> {
    let shortest = Infinity;
    for (let left = tries; left > 0; left--) {
      const turnMs = await this.#inspectors.get(watch)?.longestTurnMs(async (begin) => {
        await this.#arena.play(input, begin);
        await pause(afterwardsMs);
      });
      shortest = Math.min(shortest, turnMs ?? 0);
    }
    return shortest;
  }

  /** Resolves when no process does anything any more. */
  async #rest(): Promise<void> {
    const deadline = performance.now() + restWithinMs;
    let before = this.#arena.watches.map((watch) => watch.mainThreadMs);
    while (performance.now() < deadline && !this.#arena.hasDead) {
      await pause(restMs);
      const now = this.#arena.watches.map((watch) => watch.mainThreadMs);
      if (now.every((ms, index) => ms - (before[index] ?? 0) < restingCpuMs)) return;
      before = now;
    }
  }
}
