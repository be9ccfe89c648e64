/** Settings of the checker: flags, else environment variables. Lists all invalid ones at once. */
import { Type } from "typebox";
import { readArguments } from "../../shared/runtime/command-line.ts";
import { integer, text } from "../../shared/runtime/setting-kinds.ts";
import type { Setting, SettingValues } from "../../shared/runtime/settings.ts";
import { checkSettings, checkVariables } from "./check-command.ts";

const namespace: Setting<string> = {
  ...text({ fallback: "checker" }),
  schema: Type.String({ pattern: "^[a-z0-9_-]{1,32}$" }),
};

const settings = {
  ...checkSettings,
  "--namespace": namespace,
  "--clients": integer({ min: 1, max: 5_000, fallback: 10 }),
  "--channels": integer({ min: 1, max: 200, fallback: 3 }),
  "--publishers": integer({ min: 1, max: 20, fallback: 2 }),
  /** Publications per second of each publisher. */
  "--rate": integer({ min: 1, max: 200, fallback: 10 }),
};

/** The environment variable of each flag. */
const variables = {
  ...checkVariables,
  "--namespace": "CHECKER_NAMESPACE",
  "--clients": "CHECKER_CLIENTS",
  "--channels": "CHECKER_CHANNELS",
  "--publishers": "CHECKER_PUBLISHERS",
  "--rate": "CHECKER_RATE",
};

export function readCheckerSettings(): SettingValues<typeof settings> {
  return readArguments(settings, variables);
}
