/** Runs many schedules of SQL sources, one after the other, on one arena. */
import {
  runSeries,
  type ScheduleResult,
  type SeriesOptions,
  type Summary,
  summaryText,
} from "../checker/schedule-series.ts";
import { type FaultSet, startSqlArena } from "./arena.ts";
import type { KillFigures } from "./gap-kills.ts";
import { runSqlSchedule } from "./schedule.ts";
import type { ShardVerdict } from "./violations.ts";

/** Each fault once. */
const turnsOfAll = 5;
const turnsOfKills = 20;

export interface SqlSummary extends Summary {
  readonly rows: number;
  /** Of the naive readers. */
  readonly lostByNaive: number;
  readonly kills: KillFigures;
}

export async function runSqlSchedules(
  options: SeriesOptions<ScheduleResult<ShardVerdict>> & { readonly writers: number; readonly faults: FaultSet },
): Promise<SqlSummary> {
  const { seed, writers, faults } = options;
  const turns = faults === "kills" ? turnsOfKills : turnsOfAll;
  const kills = { pg: 0, maria: 0, withPage: 0 };
  const { verdicts, ...summary } = await runSeries(options, {
    turnsPerSchedule: { standalone: turns },
    lanes: [{ kind: "standalone", width: 1 }],
    kindOf: () => "standalone" as const,
    startArena: async () => startSqlArena(faults, kills),
    run: async (arena, schedule) => runSqlSchedule({ arena, seed, writers, turns, ...schedule }),
  });
  const sum = (figure: "rows" | "lostByNaive"): number =>
    verdicts.reduce((total, verdict) => total + verdict[figure], 0);
  return { ...summary, rows: sum("rows"), lostByNaive: sum("lostByNaive"), kills };
}

export function sqlSummaryText(summary: SqlSummary): string {
  const { rows, lostByNaive, kills } = summary;
  return summaryText(summary, [
    `${rows} rows; a reader by "id > pointer" beside it lost ${lostByNaive}`,
    `${kills.pg + kills.maria} private APIs killed while a shard that they read had a gap, ${kills.pg} times in PostgreSQL and ${kills.maria} in MariaDB; in ${kills.withPage} of these a page of it was begun`,
  ]);
}
