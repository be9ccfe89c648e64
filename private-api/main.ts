/**
 * Runs one private API process until SIGTERM or SIGINT. Settings come from the environment (docs/settings.md):
 *
 *   PRIVATE_API_TOKENS='[…]' RULES_FILE=rules.yaml REDIS_URL=redis://… npm run private-api
 *
 * Exit code 78: a setting or an argument is not valid; each finding is a line.
 */
import { runOnStores } from "../shared/program/main.ts";
import { readArguments } from "../shared/runtime/command-line.ts";
import { privateApiSettings } from "./config.ts";
import { createPrivateApi } from "./private-api.ts";

readArguments({});
await runOnStores({
  name: "private-api",
  title: "private API",
  settings: privateApiSettings,
  create: createPrivateApi,
  stopDeadlineMs: (config) => config.PRIVATE_API_STOP_SECONDS * 1000,
});
