/** Runs many schedules on a few arenas, each of which runs one after the other. */
import { type ArenaKind, startArena } from "./schedule-arena.ts";
import type { Fault } from "./schedule-faults.ts";
import { type Lane, runLanes } from "./schedule-lanes.ts";
import { runSchedule, type ScheduleResult } from "./schedule.ts";

/** Of each twenty schedules in a row, those that run on Sentinel and on Cluster. */
const sentinelAt = new Set([5, 12]);
const clusterAt = new Set([3, 9, 16]);
/** Faults that each schedule must run; those of Sentinel and Cluster take long. */
const turnsPerSchedule = { standalone: 2, sentinel: 1, cluster: 1 } as const;
/** Arenas that run at the same time. */
const lanes: readonly Lane<ArenaKind>[] = [
  { kind: "standalone", width: 1 },
  { kind: "standalone", width: 1 },
  { kind: "sentinel", width: 1 },
  { kind: "cluster", width: 1 },
];

export interface Summary {
  readonly seed: string;
  readonly schedules: number;
  readonly seconds: number;
  /** How often each fault occurred. */
  readonly faults: Readonly<Record<string, number>>;
  readonly acknowledged: number;
  /** Acknowledged publications lost by declared losses. */
  readonly gone: number;
  readonly deliveries: number;
  readonly signals: number;
  /** By kind. */
  readonly violations: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}

/**
 * @param options.only runs these of the `count` schedules alone
 * @param options.onResult called after each schedule
 * @param options.signal lets running schedules end, does not count them, and starts no more
 */
export async function runSchedules(options: {
  count: number;
  seed: string;
  only?: readonly number[];
  onResult?: (result: ScheduleResult) => void;
  signal?: AbortSignal;
}): Promise<Summary> {
  const { count, seed, only, onResult, signal } = options;
  const startedAt = performance.now();
  const tally = new Tally();
  await runLanes({
    ...{ count, only, lanes, kindOf, turnsPerSchedule, signal },
    startArena: async (kind) => {
      const arena = await startArena(kind);
      tally.addKinds(arena.turns);
      return arena;
    },
    run: async (arena, { index, turn }) => {
      const own = Array.from({ length: turnsPerSchedule[arena.kind] }, (_, n) => turn + n);
      const faults = own.flatMap((at) => arena.turns[at % arena.turns.length] ?? []);
      const result = await runSchedule({ arena, seed, index, turns: faults });
      // Ctrl-C stops the processes of the arena, too: that is no failure of theirs.
      if (signal?.aborted) return true;
      tally.add(result);
      onResult?.(result);
      return result.failures.length === 0;
    },
  });
  return { seed, ...tally.sums(), seconds: (performance.now() - startedAt) / 1_000 };
}

function kindOf(index: number): ArenaKind {
  const at = index % 20;
  if (sentinelAt.has(at)) return "sentinel";
  return clusterAt.has(at) ? "cluster" : "standalone";
}

class Tally {
  readonly #faults: Record<string, number> = {};
  readonly #violations: Record<string, number> = {};
  readonly #failures: string[] = [];
  readonly #sums = { schedules: 0, acknowledged: 0, gone: 0, deliveries: 0, signals: 0 };

  addKinds(faults: readonly Fault[]): void {
    for (const { kind } of faults) this.#faults[kind] ??= 0;
  }

  add({ index, faults, verdicts, failures }: ScheduleResult): void {
    this.#sums.schedules++;
    for (const kind of faults) this.#faults[kind] = (this.#faults[kind] ?? 0) + 1;
    for (const verdict of verdicts) {
      for (const { kind } of verdict.violations) this.#violations[kind] = (this.#violations[kind] ?? 0) + 1;
      for (const field of ["acknowledged", "gone", "deliveries", "signals"] as const)
        this.#sums[field] += verdict[field];
    }
    this.#failures.push(...failures.map((failure) => `schedule ${index}: ${failure}`));
  }

  sums(): Omit<Summary, "seed" | "seconds"> {
    return { ...this.#sums, faults: this.#faults, violations: this.#violations, failures: this.#failures };
  }
}

export function summaryText(summary: Summary): string {
  const { seed, schedules, seconds, faults, acknowledged, gone, deliveries, signals, violations, failures } = summary;
  const counts = (record: Readonly<Record<string, number>>): string[] => {
    return Object.entries(record)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([kind, count]) => `  ${String(count).padStart(5)}  ${kind}`);
  };
  return [
    `seed ${seed}: ${schedules} schedules in ${seconds.toFixed(0)} s`,
    ...counts(faults),
    `${acknowledged} publications acknowledged, ${gone} of them gone with declared losses`,
    `${deliveries} deliveries, ${signals} signals`,
    Object.keys(violations).length + failures.length === 0 ? "no violation" : "VIOLATIONS",
    ...counts(violations),
    ...failures,
    "",
  ].join("\n");
}
