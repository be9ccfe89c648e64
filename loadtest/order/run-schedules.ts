/** Runs many order schedules on a few arenas. */
import { type Lane, runLanes } from "../checker/schedule-lanes.ts";
import { type ArenaKind, startOrderArena } from "./arena.ts";
import { type OrderTotals, totalsOf, totalsText } from "./report.ts";
import { type OrderScheduleResult, runOrderSchedule } from "./schedule.ts";

/** Of each fifteen schedules in a row, those that run on Sentinel and on Cluster. */
const sentinelAt = new Set([4, 11]);
const clusterAt = new Set([1, 6, 9, 13]);
const turnsPerSchedule = { standalone: 2, sentinel: 1, cluster: 1 } as const;
/** Schedules mostly wait for leases to end: those of one arena overlap. A failover takes its arena for itself. */
const lanes: readonly Lane<ArenaKind>[] = [
  { kind: "standalone", width: 2 },
  { kind: "standalone", width: 2 },
  { kind: "sentinel", width: 1 },
  { kind: "cluster", width: 1 },
];

export interface OrderSummary {
  readonly seed: string;
  readonly schedules: number;
  readonly seconds: number;
  /** How often each fault occurred. */
  readonly faults: Readonly<Record<string, number>>;
  readonly keys: number;
  readonly totals: OrderTotals;
  /** By kind. */
  readonly violations: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}

/**
 * @param options.only runs these of the `count` schedules alone
 * @param options.onResult called after each schedule
 * @param options.signal lets running schedules end, does not count them, and starts no more
 */
export async function runOrderSchedules(options: {
  count: number;
  seed: string;
  only?: readonly number[];
  onResult?: (result: OrderScheduleResult) => void;
  signal?: AbortSignal;
}): Promise<OrderSummary> {
  const { count, seed, only, onResult, signal } = options;
  const startedAt = performance.now();
  const results: Omit<OrderScheduleResult, "trace">[] = [];
  await runLanes({
    ...{ count, only, lanes, kindOf, turnsPerSchedule, signal },
    startArena: async (kind) => startOrderArena(kind, seed),
    run: async (arena, schedule) => {
      const result = await runOrderSchedule({ arena, seed, ...schedule, turns: turnsPerSchedule[arena.kind] });
      // Ctrl-C stops the processes of the arena, too: that is no failure of theirs.
      if (signal?.aborted) return true;
      const { trace: _, ...kept } = result;
      results.push(kept);
      onResult?.(result);
      return result.failures.length === 0;
    },
  });
  const verdicts = results.flatMap((result) => result.verdicts);
  return {
    seed,
    schedules: results.length,
    seconds: (performance.now() - startedAt) / 1_000,
    faults: counts(results.flatMap(({ faults }) => faults)),
    keys: verdicts.length,
    totals: totalsOf(verdicts),
    violations: counts(verdicts.flatMap(({ violations }) => violations.map(({ kind }) => kind))),
    failures: results.flatMap(({ index, failures }) => failures.map((failure) => `schedule ${index}: ${failure}`)),
  };
}

export function isBroken({ verdicts, failures }: Pick<OrderScheduleResult, "verdicts" | "failures">): boolean {
  return failures.length > 0 || verdicts.some(({ violations }) => violations.length > 0);
}

function kindOf(index: number): ArenaKind {
  const at = index % 15;
  if (sentinelAt.has(at)) return "sentinel";
  return clusterAt.has(at) ? "cluster" : "standalone";
}

function counts(names: readonly string[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name of names) found[name] = (found[name] ?? 0) + 1;
  return found;
}

export function orderSummaryText(summary: OrderSummary): string {
  const { seed, schedules, seconds, faults, keys, totals, violations, failures } = summary;
  const lines = (record: Readonly<Record<string, number>>): string[] =>
    Object.entries(record)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([kind, count]) => `  ${String(count).padStart(5)}  ${kind}`);
  return [
    `seed ${seed}: ${schedules} schedules in ${seconds.toFixed(0)} s`,
    ...lines(faults),
    ...totalsText(totals, keys),
    Object.keys(violations).length + failures.length === 0 ? "no violation" : "VIOLATIONS",
    ...lines(violations),
    ...failures,
    "",
  ].join("\n");
}
