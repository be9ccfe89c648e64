/** Settings of the order checker: flags, else environment variables. Lists all invalid ones at once. */
import { Type } from "typebox";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, nonEmptyList, text } from "../../shared/runtime/setting-kinds.ts";
import type { SettingValues } from "../../shared/runtime/settings.ts";
import { deploymentSettings, deploymentVariables } from "../checker/deployment-settings.ts";

const settings = {
  ...deploymentSettings,
  /** Where the checker's own service listens. */
  "--service-host": text({ fallback: "127.0.0.1" }),
  "--service-port": integer({ min: 1, max: 65_535, fallback: 8_091 }),
  /** Events of `enqueue` routes with the key `/key`; each client emits on a key of its own for each of them. */
  "--events": nonEmptyList(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$" }), {
    fallback: ["order.item"],
  }),
  "--clients": integer({ min: 1, max: 1_000, fallback: 10 }),
  /** Items per second of each key. */
  "--rate": integer({ min: 1, max: 100, fallback: 5 }),
  /** Connections dropped per minute, over all clients. */
  "--drops": integer({ min: 0, max: 6_000, fallback: 60 }),
  "--seconds": integer({ min: 1, max: 3_600, fallback: 30 }),
  /** At the end, longest wait for the next item to be delivered. */
  "--settle-seconds": integer({ min: 1, max: 3_600, fallback: 60 }),
  "--json": toggle(),
  "--allow-loss": toggle(),
};

/** The environment variable of each flag. */
const variables = {
  ...deploymentVariables,
  "--service-host": "CHECKER_SERVICE_HOST",
  "--service-port": "CHECKER_SERVICE_PORT",
  "--events": "CHECKER_EVENTS",
  "--clients": "CHECKER_CLIENTS",
  "--rate": "CHECKER_RATE",
  "--drops": "CHECKER_DROPS",
  "--seconds": "CHECKER_SECONDS",
  "--settle-seconds": "CHECKER_SETTLE_SECONDS",
};

export function readOrderSettings(): SettingValues<typeof settings> {
  return readArguments(settings, variables);
}
