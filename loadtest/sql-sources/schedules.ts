/**
 * Random fault schedules for the readers of SQL sources, on real PostgreSQL, MariaDB and Redis: writers commit late, roll back, use savepoints
 * and write last in a transaction that began first, while private APIs, databases and Redis break.
 *
 *   npm run checker -- sql-schedules [--schedules 4] [--seed TEXT] [--writers 24] [--only N[,N]] [--json]
 *   npm run checker -- sql-schedules --faults kills --schedules 10      kills 200 private APIs, each while a shard that it reads has a gap
 *
 * Exit code 0: each committed row was published once, and in order of its channel. Says how many rows a reader by `id > pointer` lost.
 */
import { integer, oneOf } from "../../shared/runtime/setting-kinds.ts";
import { runScheduleCommand } from "../checker/schedule-command.ts";
import { faultSets } from "./arena.ts";
import { runSqlSchedules, sqlSummaryText } from "./run-schedules.ts";

await runScheduleCommand(
  async (options, { "--faults": faults, "--writers": writers }) => runSqlSchedules({ ...options, faults, writers }),
  sqlSummaryText,
  { "--faults": oneOf(faultSets, "all"), "--writers": integer({ min: 1, max: 400, fallback: 24 }) },
);
