/** Runs one private API process until SIGTERM or SIGINT. */
import { runOnStores } from "../shared/program/main.ts";
import { privateApiSettings } from "./config.ts";
import { createPrivateApi } from "./private-api.ts";

await runOnStores({
  name: "private-api",
  title: "private API",
  settings: privateApiSettings,
  create: createPrivateApi,
  stopDeadlineMs: (config) => config.PRIVATE_API_STOP_SECONDS * 1000,
});
