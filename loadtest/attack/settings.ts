/** What a run is told: by flags, or by environment variables where that is more fitting. All findings are listed at once. */
import { parseArgs } from "node:util";
import {
  type Environment,
  integer,
  optional,
  readSettings,
  SettingsError,
  type SettingValues,
  text,
  url,
} from "../../shared/settings.ts";
import type { Attack } from "./attack.ts";
import { chosenAttacks } from "./catalogue.ts";

const settings = {
  "--seconds": integer({ min: 1, max: 600, fallback: 30 }),
  "--connections": integer({ min: 1, max: 100, fallback: 4 }),
  /** Before and after each attack. */
  "--quiet-seconds": integer({ min: 3, max: 60, fallback: 10 }),
  "--only": optional(text()),
  "--from": optional(text()),
  "--gateway": optional(url({ protocols: ["http:", "ws:"] })),
  "--admin": optional(url({ protocols: ["http:"] })),
  "--api": optional(url({ protocols: ["http:"] })),
  "--api-token": optional(text({ secret: true })),
  "--jwt-secret": optional(text({ secret: true, minLength: 32 })),
  "--service-host": text({ fallback: "127.0.0.1" }),
  "--service-port": integer({ min: 1, max: 65_535, fallback: 8_090 }),
};

type Name = keyof typeof settings;

/** Secrets need not be on a command line. */
const variables: Partial<Record<Name, string>> = {
  "--api-token": "PRIVATE_API_TOKEN",
  "--jwt-secret": "AUTH_JWT_SECRET",
};

const switches = ["json", "list"] as const;

export const usage = `npm run attack -- [--seconds 30] [--connections 4] [--quiet-seconds 10] [--only NAME,…] [--json] [--list]
  [--from ADDRESS]   where the attackers connect from; 127.0.0.66 where the gateway is on a loopback address
  [--gateway URL --admin URL --api URL --api-token TOKEN --jwt-secret SECRET [--service-host HOST] [--service-port PORT]]
                     a deployment that runs; without these the command starts one and ends it
--only takes names of attacks and families; --list shows them.
`;

export type AttackSettings = SettingValues<typeof settings> & {
  readonly json: boolean;
  readonly list: boolean;
  readonly attacks: readonly Attack[];
};

/** @throws SettingsError */
export function readAttackSettings(args: readonly string[], environment: Environment): AttackSettings {
  const names = Object.keys(settings) as Name[];
  const flags = parseFlags(args, names);
  const valueOf = (name: Name): string | undefined => {
    const flag = flags[name.slice(2)];
    const variable = variables[name];
    // A token in the environment is for a deployment that is named.
    const fallback = variable === undefined || flags["gateway"] === undefined ? undefined : environment[variable];
    return typeof flag === "string" ? flag : fallback;
  };
  const given = Object.fromEntries(names.map((name) => [name, valueOf(name)]));
  let attacks: readonly Attack[] = [];
  const values = readSettings(settings, given, (read) => {
    try {
      attacks = chosenAttacks(read["--only"]?.split(",") ?? []);
    } catch (error) {
      return [`--only: ${(error as Error).message}`];
    }
    return missingFlags(given);
  });
  return { ...values, attacks, json: flags["json"] === true, list: flags["list"] === true };
}

/** Where one part of a deployment is named, all are. */
function missingFlags(given: Readonly<Record<string, string | undefined>>): string[] {
  const together: readonly Name[] = ["--gateway", "--admin", "--api", "--api-token", "--jwt-secret"];
  if (together.every((name) => given[name] === undefined)) return [];
  return together
    .filter((name) => given[name] === undefined)
    .map((name) => `${name}: is required where the deployment is not one of the command's own`);
}

function parseFlags(args: readonly string[], names: readonly string[]): Record<string, string | boolean | undefined> {
  const options = {
    ...Object.fromEntries(names.map((name) => [name.slice(2), { type: "string" as const }])),
    ...Object.fromEntries(switches.map((name) => [name, { type: "boolean" as const }])),
  };
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new SettingsError([(error as Error).message]);
  }
}
