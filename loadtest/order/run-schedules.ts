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

const turnsPerSchedule = { standalone: 3, sentinel: 1, cluster: 1, cells: 1 } as const;

export interface OrderSummary extends Summary {
  readonly keys: number;
  readonly totals: OrderTotals;
  /** Between cells. */
  readonly movedSlots: number;
}

export async function runOrderSchedules(options: SeriesOptions<ScheduleResult<KeyVerdict>>): Promise<OrderSummary> {
  const { seed } = options;
  let movedSlots = 0;
  const onMoved = (slots: number): void => void (movedSlots += slots);
  const { verdicts, ...summary } = await runSeries(options, {
    turnsPerSchedule,
    // Schedules mostly wait for leases to end: those of one arena overlap. A failover takes its arena for itself.
    lanes: [
      { kind: "standalone", width: 2 },
      { kind: "standalone", width: 2 },
      { kind: "sentinel", width: 1 },
      { kind: "cluster", width: 1 },
      { kind: "cells", width: 2 },
    ],
    kindOf: kindsInTurn(15, { sentinel: [4, 11], cluster: [1, 6, 9, 13], cells: [2, 7, 12] }),
    startArena: async (kind) => startOrderArena({ kind, seed, onMoved }),
    run: async (arena, schedule) => runOrderSchedule({ arena, seed, ...schedule, turns: turnsPerSchedule[arena.kind] }),
  });
  return { ...summary, keys: verdicts.length, totals: totalsOf(verdicts), movedSlots };
}

export function orderSummaryText(summary: OrderSummary): string {
  const { totals, keys, movedSlots } = summary;
  return summaryText(summary, [...totalsText(totals, keys), `${movedSlots} slots moved between cells`]);
}
