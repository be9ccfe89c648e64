/** Settings of both programs. */
import { type Logger, logLevels } from "../runtime/logging.ts";
import { redisSettings } from "../redis/settings.ts";
import { about, oneOf } from "../runtime/setting-kinds.ts";
import type { Environment } from "../runtime/settings.ts";

export const commonSettings = {
  ...redisSettings,
  LOG_LEVEL: about("Lowest level that is logged.", oneOf(logLevels, "info")),
};

/** Reserved settings without an effect in this version; a warning names those that are set. */
export const settingsWithoutEffect = ["GATEWAY_WORKERS"];

/** Logs variables without an effect. @param unknown variables that are not settings, as described by `unknownSettings`. */
export function warnOfSettings(environment: Environment, unknown: readonly string[], logger: Logger): void {
  const names = settingsWithoutEffect.filter((name) => environment[name]);
  if (names.length > 0) logger.warn({ names }, "these settings have no effect in this version");
  if (unknown.length > 0) logger.warn(`unknown settings: ${unknown.join(", ")}`);
}
