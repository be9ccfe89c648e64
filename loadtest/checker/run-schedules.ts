/** Runs many schedules of clients and publishers on a few arenas. */
import type { Verdict } from "./ledger.ts";
import { startArena } from "./schedule-arena.ts";
import {
  kindsInTurn,
  runSeries,
  type ScheduleResult,
  type SeriesOptions,
  type Summary,
  summaryText,
} from "./schedule-series.ts";
import { runSchedule } from "./schedule.ts";

/** Faults that each schedule must run; those of Sentinel and Cluster take long. */
const turnsPerSchedule = { standalone: 2, sentinel: 1, cluster: 1 } as const;

const figures = ["acknowledged", "gone", "deliveries", "signals"] as const;

/** `gone`: acknowledged publications lost by declared losses. */
export type CheckerSummary = Summary & Readonly<Record<(typeof figures)[number], number>>;

export async function runSchedules(options: SeriesOptions<ScheduleResult<Verdict>>): Promise<CheckerSummary> {
  /** Every kind of the arenas, also those that never occur. */
  const kinds = new Set<string>();
  const { verdicts, ...summary } = await runSeries(options, {
    turnsPerSchedule,
    // Arenas that run at the same time.
    lanes: [
      { kind: "standalone", width: 1 },
      { kind: "standalone", width: 1 },
      { kind: "sentinel", width: 1 },
      { kind: "cluster", width: 1 },
    ],
    kindOf: kindsInTurn(20, { sentinel: [5, 12], cluster: [3, 9, 16] }),
    startArena: async (kind) => {
      const arena = await startArena(kind);
      for (const fault of arena.turns) kinds.add(fault.kind);
      return arena;
    },
    run: async (arena, { index, turn }) => {
      const own = Array.from({ length: turnsPerSchedule[arena.kind] }, (_, n) => turn + n);
      const turns = own.flatMap((at) => arena.turns[at % arena.turns.length] ?? []);
      return runSchedule({ arena, seed: options.seed, index, turns });
    },
  });
  const total = (figure: (typeof figures)[number]): number =>
    verdicts.reduce((sum, verdict) => sum + verdict[figure], 0);
  return {
    ...summary,
    faults: { ...Object.fromEntries([...kinds].map((kind) => [kind, 0])), ...summary.faults },
    ...(Object.fromEntries(figures.map((figure) => [figure, total(figure)])) as Record<
      (typeof figures)[number],
      number
    >),
  };
}

export function checkerSummaryText(summary: CheckerSummary): string {
  const { acknowledged, gone, deliveries, signals } = summary;
  return summaryText(summary, [
    `${acknowledged} publications acknowledged, ${gone} of them gone with declared losses`,
    `${deliveries} deliveries, ${signals} signals`,
  ]);
}
