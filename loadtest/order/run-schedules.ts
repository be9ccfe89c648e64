/** Runs many order schedules on a few arenas. */
import {
  kindsInTurn,
  runSeries,
  type ScheduleResult,
  type SeriesOptions,
  type Summary,
  summaryText,
} from "../checker/schedule-series.ts";
import { startOrderArena } from "./arena.ts";
import type { KeyVerdict } from "./key-ledger.ts";
import { type OrderTotals, totalsOf, totalsText } from "./report.ts";
import { runOrderSchedule } from "./schedule.ts";

const turnsPerSchedule = { standalone: 2, sentinel: 1, cluster: 1 } as const;

export type OrderSummary = Summary & { readonly keys: number; readonly totals: OrderTotals };

export async function runOrderSchedules(options: SeriesOptions<ScheduleResult<KeyVerdict>>): Promise<OrderSummary> {
  const { seed } = options;
  const { verdicts, ...summary } = await runSeries(options, {
    turnsPerSchedule,
    // Schedules mostly wait for leases to end: those of one arena overlap. A failover takes its arena for itself.
    lanes: [
      { kind: "standalone", width: 2 },
      { kind: "standalone", width: 2 },
      { kind: "sentinel", width: 1 },
      { kind: "cluster", width: 1 },
    ],
    kindOf: kindsInTurn(15, { sentinel: [4, 11], cluster: [1, 6, 9, 13] }),
    startArena: async (kind) => startOrderArena(kind, seed),
    run: async (arena, schedule) => runOrderSchedule({ arena, seed, ...schedule, turns: turnsPerSchedule[arena.kind] }),
  });
  return { ...summary, keys: verdicts.length, totals: totalsOf(verdicts) };
}

export function orderSummaryText(summary: OrderSummary): string {
  return summaryText(summary, totalsText(summary.totals, summary.keys));
}
