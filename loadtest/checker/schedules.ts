/**
 * Random fault schedules against real processes, judged by the checker.
 *
 *   npm run checker -- schedules [--schedules 1000] [--seed TEXT] [--only N[,N]] [--json]
 *
 * Exit code 0: no violation. A violation prints the steps of its schedule and what the affected clients received.
 */
import { runSchedules, summaryText } from "./run-schedules.ts";
import { runScheduleCommand } from "./schedule-command.ts";

await runScheduleCommand({
  run: runSchedules,
  isBroken: ({ failures, verdicts }) => failures.length > 0 || verdicts.some(({ violations }) => violations.length > 0),
  text: summaryText,
});
