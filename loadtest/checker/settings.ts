/** What the checker is told: by flags, or by environment variables. All findings are listed at once. */
import { Type } from "typebox";
import { parseArgs } from "node:util";
import {
  type Environment,
  integer,
  readSettings,
  type Setting,
  SettingsError,
  type SettingValues,
  text,
  url,
  urls,
} from "../../shared/settings.ts";

const namespace: Setting<string> = {
  ...text({ fallback: "checker" }),
  schema: Type.String({ pattern: "^[a-z0-9_-]{1,32}$" }),
};

const settings = {
  "--gateway": urls({ protocols: ["http:", "https:", "ws:", "wss:"] }),
  "--api": url({ protocols: ["http:", "https:"] }),
  "--api-token": text({ secret: true }),
  "--jwt-secret": text({ secret: true, minLength: 32 }),
  "--namespace": namespace,
  "--clients": integer({ min: 1, max: 5_000, fallback: 10 }),
  "--channels": integer({ min: 1, max: 200, fallback: 3 }),
  "--publishers": integer({ min: 1, max: 20, fallback: 2 }),
  /** Publications per second of each publisher. */
  "--rate": integer({ min: 1, max: 200, fallback: 10 }),
  /** Connections that are dropped per minute, all clients together. */
  "--drops": integer({ min: 0, max: 6_000, fallback: 60 }),
  "--seconds": integer({ min: 1, max: 3_600, fallback: 30 }),
};

/** Where a setting comes from when there is no flag. */
const variables: Record<keyof typeof settings, string> = {
  "--gateway": "GATEWAY_URLS",
  "--api": "PRIVATE_API_URL",
  "--api-token": "PRIVATE_API_TOKEN",
  "--jwt-secret": "AUTH_JWT_SECRET",
  "--namespace": "CHECKER_NAMESPACE",
  "--clients": "CHECKER_CLIENTS",
  "--channels": "CHECKER_CHANNELS",
  "--publishers": "CHECKER_PUBLISHERS",
  "--rate": "CHECKER_RATE",
  "--drops": "CHECKER_DROPS",
  "--seconds": "CHECKER_SECONDS",
};

export type CheckerSettings = SettingValues<typeof settings> & { readonly json: boolean; readonly allowLoss: boolean };

/** @throws SettingsError */
export function readCheckerSettings(args: readonly string[], environment: Environment): CheckerSettings {
  const names = Object.keys(settings) as (keyof typeof settings)[];
  const flags = parseFlags(args, names);
  const given = Object.fromEntries(
    names.map((name) => {
      const flag = flags[name.slice(2)];
      return [name, typeof flag === "string" ? flag : environment[variables[name]]];
    }),
  );
  const values = readSettings(settings, given);
  return { ...values, json: flags["json"] === true, allowLoss: flags["allow-loss"] === true };
}

function parseFlags(args: readonly string[], names: readonly string[]): Record<string, string | boolean | undefined> {
  const options = Object.fromEntries(names.map((name) => [name.slice(2), { type: "string" as const }]));
  try {
    return parseArgs({
      args: [...args],
      options: { ...options, json: { type: "boolean" }, "allow-loss": { type: "boolean" } },
    }).values;
  } catch (error) {
    throw new SettingsError([(error as Error).message]);
  }
}
