/** Runs one gateway node until SIGTERM or SIGINT. */
import { warnOfSettings } from "../shared/program/common-settings.ts";
import { Lifecycle, runProgram } from "../shared/runtime/lifecycle.ts";
import { createLogger } from "../shared/runtime/logging.ts";
import { cellTargets } from "../shared/redis/target.ts";
import { checkCells } from "../shared/redis/setup.ts";
import { orExit, orExitLater } from "../shared/runtime/settings.ts";
import { createStores } from "../shared/program/stores.ts";
import { maskedGatewayConfig, readGatewayConfig, unknownGatewaySettings } from "./config.ts";
import { createGateway } from "./gateway.ts";

const config = orExit(() => readGatewayConfig(process.env, { embedded: false }));
const logger = createLogger({ name: "gateway", level: config.LOG_LEVEL });
logger.info({ settings: maskedGatewayConfig(config) }, "gateway starting");
warnOfSettings(process.env, unknownGatewaySettings(process.env), logger);

const targets = cellTargets(config);
if (targets) await orExitLater(checkCells(targets));
const stores = createStores(targets, logger);
const program = new Lifecycle(logger);
program.add("stores", stores);
program.add("gateway", createGateway({ config, environment: process.env, ...stores, logger }));
await runProgram(program, { settings: config, logger, stopDeadlineMs: config.GATEWAY_DRAIN_SECONDS * 1000 + 5_000 });
