/** What a run observes beside its inputs: the honest client, memory, contained exceptions, warnings. */
import { Histogram } from "../checks/histogram.ts";
import type { Arena } from "./arena.ts";
import { type Memory, memoryOf } from "./leftovers.ts";
import { openSource } from "./arena-rules.ts";

/** The codes of SPEC, Edge: nothing is stored with them. */
const refusals: ReadonlySet<string> = new Set([
  ...["bad_signature", "forbidden", "unknown_source", "not_found", "invalid_request", "payload_too_large"],
  ...["rate_limited", "broker_unavailable", "upstream_unavailable"],
]);
const stored: ReadonlySet<string> = new Set(["accepted", "duplicate", "dropped"]);

export class Observations {
  readonly honest = { calls: new Histogram(), publications: new Histogram(), health: new Histogram() };
  readonly honestFailures: Record<string, number> = {};
  readonly #arenas: readonly Arena[];
  readonly #say: (line: string) => void;

  constructor(arenas: readonly Arena[], say: (line: string) => void) {
    this.#arenas = arenas;
    this.#say = say;
  }

  async collectHonest(): Promise<void> {
    for (const arena of this.#arenas) {
      const taken = await arena.honestFigures();
      if (!taken) continue;
      const { failures, ...figures } = taken;
      for (const [what, count] of Object.entries(failures)) {
        this.#say(`the honest client of ${arena.name} failed ${count} times: ${what}`);
        this.honestFailures[what] = (this.honestFailures[what] ?? 0) + count;
      }
      for (const name of ["calls", "publications", "health"] as const) this.honest[name].merge(figures[name]);
    }
  }

  async memory(): Promise<Memory[]> {
    const memory = await memoryOf(this.#arenas);
    const heaps = memory.map(
      ({ arena, process, heapBytes }) => `${process} (${arena}) ${(heapBytes / 1024 ** 2).toFixed(1)}`,
    );
    this.#say(`heaps, MiB: ${heaps.join(", ")}`);
    return memory;
  }

  /** Without the relay's boundary, which contains errors of its peers, too; the log shows the others. */
  async contained(): Promise<string[]> {
    const all: string[] = [];
    for (const arena of this.#arenas) {
      for (const [boundary, count] of await arena.contained()) {
        if (count > 0 && !boundary.endsWith(" relay")) all.push(`${boundary}: ${count}`);
      }
    }
    return all;
  }

  /** Webhooks that were stored without a signature, or whose outcome is not in SPEC. */
  async strayWebhooks(): Promise<string[]> {
    const outcomes = (await Promise.all(this.#arenas.map(async (arena) => arena.webhooks()))).flat();
    return outcomes
      .filter(({ source, outcome }) => !refusals.has(outcome) && !(source === openSource && stored.has(outcome)))
      .map(({ source, outcome, count }) => `${count} × ${source} ${outcome}`);
  }

  warnings(): Record<string, number> {
    const warnings: Record<string, number> = {};
    for (const { name, watches } of this.#arenas) {
      for (const [message, count] of watches.flatMap((watch) => [...watch.warnings])) {
        const where = `${name}: ${message}`;
        warnings[where] = (warnings[where] ?? 0) + count;
      }
    }
    return warnings;
  }
}
