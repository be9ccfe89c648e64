/** Runs many endpoint schedules on a few arenas. */
import type { Lane } from "../checker/schedule-lanes.ts";
import {
  type ArenaKind,
  kindsInTurn,
  runSeries,
  type ScheduleResult,
  type SeriesOptions,
  type Summary,
  summaryText,
} from "../checker/schedule-series.ts";
import { type FaultSet, startEndpointArena } from "./arena.ts";
import { runEndpointSchedule } from "./schedule.ts";
import type { ReaderVerdict } from "./violations.ts";

const turnsOfAll = { standalone: 3, sentinel: 1, cluster: 1 } as const;
/** 20 kills and two freezes, see {@link startEndpointArena}. */
const turnsOfKills = { ...turnsOfAll, standalone: 22 } as const;

export type EndpointSummary = Summary & Readonly<Record<"changes" | "repeats" | "gone", number>>;

/** Where arenas of these kinds run at the same time. */
export const allLanes: readonly Lane<ArenaKind>[] = [
  { kind: "standalone", width: 2 },
  { kind: "sentinel", width: 1 },
  { kind: "cluster", width: 1 },
];

export async function runEndpointSchedules(
  options: SeriesOptions<ScheduleResult<ReaderVerdict>> & { readonly isSmall?: boolean; readonly faults?: FaultSet },
): Promise<EndpointSummary> {
  const { seed, faults = "all" } = options;
  const isSmall = options.isSmall || faults === "kills";
  const turnsPerSchedule = faults === "kills" ? turnsOfKills : turnsOfAll;
  const { verdicts, ...summary } = await runSeries(options, {
    turnsPerSchedule,
    lanes: isSmall ? [{ kind: "standalone", width: 2 }] : allLanes,
    kindOf: isSmall ? () => "standalone" : kindsInTurn(12, { sentinel: [4, 10], cluster: [7] }),
    startArena: async (kind) => startEndpointArena(kind, seed, faults),
    run: async (arena, schedule) =>
      runEndpointSchedule({ arena, seed, ...schedule, turns: turnsPerSchedule[arena.kind] }),
  });
  const sum = (figure: "changes" | "repeats" | "gone"): number =>
    verdicts.reduce((total, verdict) => total + verdict[figure], 0);
  return { ...summary, changes: sum("changes"), repeats: sum("repeats"), gone: sum("gone") };
}

export function endpointSummaryText(summary: EndpointSummary): string {
  const { changes, repeats, gone } = summary;
  return summaryText(summary, [
    `${changes} changes at all readers, ${repeats} came again, ${gone} gone with declared losses`,
  ]);
}
