/** Runs a program by the settings of its environment. */
import { checkCells } from "../redis/setup.ts";
import { cellTargets } from "../redis/target.ts";
import { Lifecycle, runProgram, type Service } from "../runtime/lifecycle.ts";
import { createLogger, type Logger } from "../runtime/logging.ts";
import { type Environment, orExit, orExitLater, type SettingValues } from "../runtime/settings.ts";
import { type commonSettings, warnOfSettings } from "./common-settings.ts";
import { createStores, type OpenStores } from "./stores.ts";

/**
 * Reads the settings, checks Redis, opens the stores, and runs the program on them until SIGTERM or SIGINT. What the operator
 * has to change ends the process, with one line for each finding.
 * @param options.name in the log; `title`: in its sentences.
 */
export async function runOnStores<Config extends SettingValues<typeof commonSettings>>(options: {
  name: string;
  title: string;
  settings: {
    read(environment: Environment, options: { embedded: boolean }): Config;
    unknown(environment: Environment): readonly string[];
    masked(config: Config): Record<string, unknown>;
  };
  create: (parts: OpenStores & { config: Config; environment: Environment; logger: Logger }) => Service;
  stopDeadlineMs: (config: Config) => number;
}): Promise<void> {
  const { name, title, settings, create, stopDeadlineMs } = options;
  const environment = process.env;
  const config = orExit(() => settings.read(environment, { embedded: false }));
  const logger = createLogger({ name, level: config.LOG_LEVEL });
  logger.info({ settings: settings.masked(config) }, `${title} starting`);
  warnOfSettings(environment, settings.unknown(environment), logger);
  const targets = cellTargets(config);
  if (targets) await orExitLater(checkCells(targets));
  const stores = createStores(targets, logger);
  const program = new Lifecycle(logger);
  program.add("stores", stores);
  program.add(title, create({ config, environment, ...stores, logger }));
  await runProgram(program, { settings: config, logger, stopDeadlineMs: stopDeadlineMs(config) });
}
