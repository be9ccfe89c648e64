/**
 * Measures the cost of single inputs: the CPU time of the longest turn of a process's event loop while it handles an input.
 * Neither other load on the machine nor waiting for an answer counts.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Arena } from "./arena.ts";
import type { Input } from "./input.ts";
import { Inspector } from "./inspector.ts";
import type { ProcessWatch } from "./process-watch.ts";
import { isAuthenticated, type Target } from "./targets.ts";

/** Work behind the answer ends within this time, or shows in the next try. */
const afterwardsMs = 5;
/** The smallest of so many tries is the cost of the input; slow inputs get fewer tries. */
const tries = 3;
const triesWithinMs = 1_500;

export const limits = { unauthenticated: 20, authenticated: 50 } as const;
export type Standing = keyof typeof limits;

export interface Costly {
  readonly process: string;
  readonly target: string;
  readonly standing: Standing;
  readonly turnMs: number;
  readonly input: Input;
}

export class CostMeter {
  readonly #arena: Arena;
  readonly #inspectors: ReadonlyMap<ProcessWatch, Inspector>;
  /** The costliest input so far, by process, target and standing. */
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

  /** @returns the costs that are the highest of their kind so far. */
  async measure(target: Target, input: Input): Promise<Costly[]> {
    this.measured++;
    const standing = isAuthenticated(input) ? "authenticated" : "unauthenticated";
    const deadline = performance.now() + triesWithinMs;
    const kindOf = ({ server }: ProcessWatch): string => `${server.role} ${target.name} ${standing}`;
    let record = await this.#longestTurns(input);
    for (let left = tries - 1; left > 0 && performance.now() < deadline; left--) {
      const isRecord = [...record].some(([watch, ms]) => ms > (this.worst.get(kindOf(watch))?.turnMs ?? 0));
      if (!isRecord || this.#arena.hasDead) break;
      const again = await this.#longestTurns(input);
      record = new Map([...record].map(([watch, ms]) => [watch, Math.min(ms, again.get(watch) ?? 0)]));
    }
    return [...record].flatMap(([watch, turnMs]) => {
      const mostMs = this.worst.get(kindOf(watch))?.turnMs ?? 0;
      // NaN where the process has ended.
      if (!(turnMs > mostMs) || this.#arena.hasDead) return [];
      const costly = { process: watch.server.role, target: target.name, standing, turnMs, input } as const;
      this.worst.set(kindOf(watch), costly);
      return [costly];
    });
  }

  /** @returns whether every try costs the process more than so much. */
  async costsMore(input: Input, process: string, ms: number): Promise<boolean> {
    for (let left = tries; left > 0; left--) {
      const turns = [...(await this.#longestTurns(input))];
      if (!turns.some(([watch, turnMs]) => watch.server.role === process && turnMs > ms)) return false;
    }
    return true;
  }

  async #longestTurns(input: Input): Promise<Map<ProcessWatch, number>> {
    const inspectors = [...this.#inspectors];
    for (const [, inspector] of inspectors) await inspector.startMeter();
    await this.#arena.play(input, {
      whenReady: async () => {
        for (const [, inspector] of inspectors) await inspector.resetMeter();
      },
    });
    await pause(afterwardsMs);
    const turns = new Map<ProcessWatch, number>();
    for (const [watch, inspector] of inspectors) turns.set(watch, await inspector.stopMeter());
    return turns;
  }
}
