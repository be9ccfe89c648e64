/** Runs one private API process until SIGTERM or SIGINT. */
import { warnOfSettings } from "../shared/program/common-settings.ts";
import { Lifecycle, runProgram } from "../shared/runtime/lifecycle.ts";
import { createLogger } from "../shared/runtime/logging.ts";
import { cellTargets } from "../shared/redis/target.ts";
import { checkCells } from "../shared/redis/setup.ts";
import { orExit, orExitLater } from "../shared/runtime/settings.ts";
import { createStores } from "../shared/program/stores.ts";
import { maskedPrivateApiConfig, readPrivateApiConfig, unknownPrivateApiSettings } from "./config.ts";
import { createPrivateApi } from "./private-api.ts";

const config = orExit(() => readPrivateApiConfig(process.env, { embedded: false }));
const logger = createLogger({ name: "private-api", level: config.LOG_LEVEL });
logger.info({ settings: maskedPrivateApiConfig(config) }, "private API starting");
warnOfSettings(process.env, unknownPrivateApiSettings(process.env), logger);

const targets = cellTargets(config);
if (targets) await orExitLater(checkCells(targets));
const stores = createStores(targets, logger);
const program = new Lifecycle(logger);
program.add("stores", stores);
program.add("private API", createPrivateApi({ config, environment: process.env, ...stores, logger }));
await runProgram(program, { settings: config, logger, stopDeadlineMs: config.PRIVATE_API_STOP_SECONDS * 1000 });
