/**
 * Random fault schedules for the change log's readers against real processes: sockets, endpoints and pulls must see the same.
 *
 *   npm run checker -- endpoint-schedules [--schedules 200] [--seed TEXT] [--only N[,N]] [--json]
 *   npm run checker -- endpoint-schedules --faults kills --schedules 10      kills private APIs 200 times, and freezes them 20 times
 *
 * Exit code 0: no violation. A violation prints the steps of its schedule and the deliveries of the affected endpoints.
 */
import { runScheduleCommand } from "../checker/schedule-command.ts";
import { oneOf } from "../../shared/runtime/setting-kinds.ts";
import { faultSets } from "./arena.ts";
import { endpointSummaryText, runEndpointSchedules } from "./run-schedules.ts";

await runScheduleCommand(
  async (options, { "--faults": faults }) => runEndpointSchedules({ ...options, faults }),
  endpointSummaryText,
  { "--faults": oneOf(faultSets, "all") },
);
