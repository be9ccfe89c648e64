/** Runs many schedules on a few arenas, each of which runs one after the other. */
import { type Arena, type ArenaKind, startArena } from "./schedule-arena.ts";
import type { Fault } from "./schedule-faults.ts";
import { runSchedule, type ScheduleResult } from "./schedule.ts";

/** Of each twenty schedules in a row, those that run on Sentinel and on Cluster. */
const sentinelAt = new Set([5, 12]);
const clusterAt = new Set([3, 9, 16]);
/** Faults that each schedule must run; those of Sentinel and Cluster take long. */
const turnsPerSchedule = { standalone: 2, sentinel: 1, cluster: 1 } as const;
/** Arenas that run at the same time. */
const lanes: readonly ArenaKind[] = ["standalone", "standalone", "sentinel", "cluster"];

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
  const { count, seed, only, onResult } = options;
  const failing = new AbortController();
  const signal = AbortSignal.any([failing.signal, ...(options.signal ? [options.signal] : [])]);
  const startedAt = performance.now();
  const queues: Record<ArenaKind, { index: number; turn: number }[]> = { standalone: [], sentinel: [], cluster: [] };
  const turns = { standalone: 0, sentinel: 0, cluster: 0 };
  for (let index = 0; index < count; index++) {
    const kind = kindOf(index);
    if (!only || only.includes(index)) queues[kind].push({ index, turn: turns[kind] });
    turns[kind] += turnsPerSchedule[kind];
  }
  const tally = new Tally();
  const lanesEnded = await Promise.allSettled(
    lanes.map(async (kind) => {
      const queue = queues[kind];
      let arena: Arena | undefined;
      try {
        for (let next = queue.shift(); next && !signal.aborted; next = queue.shift()) {
          if (!arena) {
            arena = await startArena(kind);
            tally.addKinds(arena.turns);
          }
          const { index, turn } = next;
          const own = Array.from({ length: turnsPerSchedule[kind] }, (_, n) => turn + n);
          const faults = own.flatMap((at) => arena?.turns[at % arena.turns.length] ?? []);
          const result = await runSchedule({ arena, seed, index, turns: faults });
          // Ctrl-C stops the processes of the arena, too: that is no failure of theirs.
          if (signal.aborted) break;
          tally.add(result);
          onResult?.(result);
          if (result.failures.length === 0) continue;
          // A broken arena would fail the schedules after it.
          await arena.stop();
          arena = undefined;
        }
      } catch (error) {
        failing.abort();
        throw error;
      } finally {
        await arena?.stop();
      }
    }),
  );
  // By now every lane has stopped its processes.
  for (const lane of lanesEnded) if (lane.status === "rejected") throw lane.reason;
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
