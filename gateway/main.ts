/**
 * Runs one gateway node until SIGTERM or SIGINT. Settings come from the environment (docs/settings.md):
 *
 *   AUTH_JWT_SECRET=… PRIVATE_API_TOKEN=… PRIVATE_API_URL=http://… REDIS_URL=redis://… npm run gateway
 *
 * Exit code 78: a setting or an argument is not valid; each finding is a line.
 */
import { runOnStores } from "../shared/program/main.ts";
import { readArguments } from "../shared/runtime/command-line.ts";
import { gatewaySettings } from "./config.ts";
import { createGateway } from "./gateway.ts";

readArguments({});
await runOnStores({
  name: "gateway",
  title: "gateway",
  settings: gatewaySettings,
  create: createGateway,
  stopDeadlineMs: (config) => config.GATEWAY_DRAIN_SECONDS * 1000 + 5_000,
});
