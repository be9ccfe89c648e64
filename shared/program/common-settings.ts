/** Settings of both programs. */
import { type Logger, logLevels } from "../runtime/logging.ts";
import { redisSettings } from "../redis/settings.ts";
import { about, oneOf } from "../runtime/setting-kinds.ts";
import type { Environment } from "../runtime/settings.ts";

export const commonSettings = {
  ...redisSettings,
  LOG_LEVEL: about("Lowest level that is logged.", oneOf(logLevels, "info")),
};

/** Part of the contract, without effect in this version: the start warns where one is set. */
export const settingsWithoutEffect = ["REDIS_CELLS", "JOURNAL_DIR", "GATEWAY_WORKERS"];

/** Logs the settings without effect. @param unknown variables that are no settings, as `unknownSettings` describes them. */
export function warnOfSettings(environment: Environment, unknown: readonly string[], logger: Logger): void {
  const names = settingsWithoutEffect.filter((name) => environment[name]);
  if (names.length > 0) logger.warn({ names }, "these settings are without effect in this version");
  if (unknown.length > 0) logger.warn(`unknown settings: ${unknown.join(", ")}`);
}
