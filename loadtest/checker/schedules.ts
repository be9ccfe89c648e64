/**
 * Random fault schedules against real processes, judged by the checker.
 *
 *   npm run checker -- schedules [--schedules 1000] [--seed TEXT] [--only N[,N]] [--json]
 *
 * Exit code 0: no violation. A violation prints the steps of its schedule and what the affected clients received.
 */
import { checkerSummaryText, runSchedules } from "./run-schedules.ts";
import { runScheduleCommand } from "./schedule-command.ts";

await runScheduleCommand(runSchedules, checkerSummaryText, {});
