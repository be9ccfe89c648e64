/**
 * Random fault schedules for the change log's readers against real processes: sockets, endpoints and pulls must see the same.
 *
 *   npm run checker -- endpoint-schedules [--schedules 200] [--seed TEXT] [--only N[,N]] [--json]
 *
 * Exit code 0: no violation. A violation prints the steps of its schedule and the deliveries of the affected endpoints.
 */
import { runScheduleCommand } from "../checker/schedule-command.ts";
import { endpointSummaryText, runEndpointSchedules } from "./run-schedules.ts";

await runScheduleCommand(runEndpointSchedules, endpointSummaryText);
