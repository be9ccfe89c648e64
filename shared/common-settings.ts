/** Settings that both programs know. */
import { type Logger, logLevels } from "./logging.ts";
import { redisSettings } from "./redis/settings.ts";
import { type Environment, oneOf } from "./settings.ts";

export const commonSettings = {
  ...redisSettings,
  LOG_LEVEL: oneOf(logLevels, "info"),
};

/** Part of the contract, and without effect in this version: set, they are named in a warning. */
const settingsWithoutEffect = ["REDIS_CELLS", "JOURNAL_DIR", "GATEWAY_WORKERS"];

export function warnWithoutEffect(environment: Environment, logger: Logger): void {
  const names = settingsWithoutEffect.filter((name) => environment[name]);
  if (names.length > 0) logger.warn({ names }, "these settings are without effect in this version");
}
