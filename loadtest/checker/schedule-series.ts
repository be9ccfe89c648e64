/** Runs many schedules on a few arenas, and counts what occurred. */
import { type Lane, type LaneOptions, runLanes } from "./schedule-lanes.ts";

/** Characters. */
const maxExcerpt = 4_000;

export type ArenaKind = "standalone" | "sentinel" | "cluster";

export interface SomeVerdict {
  readonly violations: readonly { readonly kind: string }[];
}

export interface ScheduleResult<Verdict extends SomeVerdict> {
  readonly index: number;
  readonly arena: string;
  /** Kinds, in the order in which the faults began. */
  readonly faults: readonly string[];
  readonly verdicts: readonly Verdict[];
  /** Why there is no verdict, or what broke beside the contract. */
  readonly failures: readonly string[];
  /** All steps and what broke, then the programs' output, and what the affected clients or keys received. */
  readonly trace: () => string;
}

export interface SeriesOptions<Result> {
  readonly count: number;
  readonly seed: string;
  /** Runs these of the `count` schedules alone. */
  readonly only?: readonly number[];
  /** Called after each schedule. */
  readonly onResult?: (result: Result) => void;
  /** Lets running schedules end, does not count them, and starts no more. */
  readonly signal?: AbortSignal;
}

/** What kind of schedules they are. */
export interface Series<Kind extends string, Arena extends { stop(): Promise<void> }, Result> extends Pick<
  LaneOptions<Kind, Arena>,
  "turnsPerSchedule" | "startArena"
> {
  readonly lanes: readonly Lane<Kind>[];
  readonly kindOf: (index: number) => Kind;
  readonly run: (arena: Arena, schedule: { index: number; turn: number }) => Promise<Result>;
}

export interface Summary {
  readonly seed: string;
  readonly schedules: number;
  readonly seconds: number;
  /** How often each fault occurred. */
  readonly faults: Readonly<Record<string, number>>;
  /** By kind. */
  readonly violations: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}

/** Schedules in a row run on these kinds in turn. @param rows of `length`, by number within the row; the others are standalone */
export function kindsInTurn<Kind extends string>(
  length: number,
  rows: Readonly<Record<Kind, readonly number[]>>,
): (index: number) => Kind | "standalone" {
  const kinds = Object.entries(rows) as [Kind, readonly number[]][];
  return (index) => kinds.find(([, row]) => row.includes(index % length))?.[0] ?? "standalone";
}

export async function runSeries<
  Kind extends string,
  Arena extends { stop(): Promise<void> },
  Verdict extends SomeVerdict,
>(
  options: SeriesOptions<ScheduleResult<Verdict>>,
  series: Series<Kind, Arena, ScheduleResult<Verdict>>,
): Promise<Summary & { readonly verdicts: readonly Verdict[] }> {
  const { count, seed, only, onResult, signal } = options;
  const startedAt = performance.now();
  const results: Omit<ScheduleResult<Verdict>, "trace">[] = [];
  await runLanes({
    ...series,
    ...{ count, only, signal },
    run: async (arena, schedule) => {
      const result = await series.run(arena, schedule);
      // Ctrl-C stops the processes of the arena, too: that is no failure of theirs.
      if (signal?.aborted) return true;
      // A trace keeps everything that the schedule saw.
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
    violations: counts(verdicts.flatMap(({ violations }) => violations.map(({ kind }) => kind))),
    failures: results.flatMap(({ index, failures }) => failures.map((failure) => `schedule ${index}: ${failure}`)),
    verdicts,
  };
}

/** A broken arena, or a broken contract. */
export function isBroken({ verdicts, failures }: ScheduleResult<SomeVerdict>): boolean {
  return failures.length > 0 || verdicts.some(({ violations }) => violations.length > 0);
}

/** The beginning of each trace, for the message of an assertion. */
export function tracesExcerpt(traces: readonly string[]): string {
  return traces.map((trace) => trace.slice(0, maxExcerpt / traces.length)).join("\n\n");
}

/** @param figures lines on what the schedules did */
export function summaryText(summary: Summary, figures: readonly string[]): string {
  const { seed, schedules, seconds, faults, violations, failures } = summary;
  return [
    `seed ${seed}: ${schedules} schedules in ${seconds.toFixed(0)} s`,
    ...countLines(faults),
    ...figures,
    Object.keys(violations).length + failures.length === 0 ? "no violation" : "VIOLATIONS",
    ...countLines(violations),
    ...failures,
    "",
  ].join("\n");
}

function counts(names: readonly string[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name of names) found[name] = (found[name] ?? 0) + 1;
  return found;
}

function countLines(record: Readonly<Record<string, number>>): string[] {
  return Object.entries(record)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([kind, count]) => `  ${String(count).padStart(5)}  ${kind}`);
}
