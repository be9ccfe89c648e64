/** Settings of the order checker: flags, else environment variables. Lists all invalid ones at once. */
import { Type } from "typebox";
import { readArguments } from "../../shared/runtime/command-line.ts";
import { integer, list, nonEmptyList, text } from "../../shared/runtime/setting-kinds.ts";
import type { SettingValues } from "../../shared/runtime/settings.ts";
import { checkSettings, checkVariables } from "../checker/check-command.ts";

const settings = {
  ...checkSettings,
  /** Where the checker's own service listens. */
  "--service-host": text({ fallback: "127.0.0.1" }),
  "--service-port": integer({ min: 1, max: 65_535, fallback: 8_091 }),
  /** Events of `enqueue` routes with the key `/key`; each client emits on a key of its own for each of them. */
  "--events": nonEmptyList(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$" }), {
    fallback: ["order.item"],
  }),
  /** Sources with `verify: github`, the key `body:/key` and the id `header:x-github-delivery`: they get webhooks beside the clients. */
  "--sources": list(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" }), { fallback: [] }),
  "--hook-secret": text({ secret: true, fallback: "" }),
  "--clients": integer({ min: 1, max: 1_000, fallback: 10 }),
  /** Items per second of each key. */
  "--rate": integer({ min: 1, max: 100, fallback: 5 }),
  /** At the end, longest wait for the next item to be delivered. */
  "--settle-seconds": integer({ min: 1, max: 3_600, fallback: 60 }),
};

/** The environment variable of each flag. */
const variables = {
  ...checkVariables,
  "--service-host": "CHECKER_SERVICE_HOST",
  "--service-port": "CHECKER_SERVICE_PORT",
  "--events": "CHECKER_EVENTS",
  "--sources": "CHECKER_SOURCES",
  "--hook-secret": "CHECKER_HOOK_SECRET",
  "--clients": "CHECKER_CLIENTS",
  "--rate": "CHECKER_RATE",
  "--settle-seconds": "CHECKER_SETTLE_SECONDS",
};

export function readOrderSettings(): SettingValues<typeof settings> {
  return readArguments(settings, variables);
}
