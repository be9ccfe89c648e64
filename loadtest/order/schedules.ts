/**
 * Random fault schedules for keyed queues against real processes, judged by the order checker.
 *
 *   npm run checker -- order-schedules [--schedules 1000] [--seed TEXT] [--only N[,N]] [--json]
 *
 * Exit code 0: no violation. A violation prints the steps of its schedule and the deliveries of the affected keys.
 */
import { runScheduleCommand } from "../checker/schedule-command.ts";
import { orderSummaryText, runOrderSchedules } from "./run-schedules.ts";

await runScheduleCommand(runOrderSchedules, orderSummaryText, {});
