/** Runs one gateway node until SIGTERM or SIGINT. */
import { runOnStores } from "../shared/program/main.ts";
import { gatewaySettings } from "./config.ts";
import { createGateway } from "./gateway.ts";

await runOnStores({
  name: "gateway",
  title: "gateway",
  settings: gatewaySettings,
  create: createGateway,
  stopDeadlineMs: (config) => config.GATEWAY_DRAIN_SECONDS * 1000 + 5_000,
});
