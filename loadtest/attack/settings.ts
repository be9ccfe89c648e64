/** Settings of a run: flags, or environment variables for secrets. Lists all invalid ones at once. */
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, optional, text, token, url } from "../../shared/runtime/setting-kinds.ts";
import type { SettingValues } from "../../shared/runtime/settings.ts";
import type { Attack } from "./attack.ts";
import { chosenAttacks } from "./catalogue.ts";

const settings = {
  "--seconds": integer({ min: 1, max: 600, fallback: 30 }),
  "--connections": integer({ min: 1, max: 100, fallback: 4 }),
  /** No more connections than `--connections`, also in attacks that open many for each. */
  "--exactly": toggle(),
  /** Quiet time before and after each attack. */
  "--quiet-seconds": integer({ min: 3, max: 60, fallback: 10 }),
  "--only": optional(text()),
  "--from": optional(text()),
  "--gateway": optional(url({ protocols: ["http:", "ws:"] })),
  "--admin": optional(url({ protocols: ["http:"] })),
  "--api": optional(url({ protocols: ["http:"] })),
  "--api-token": optional(token()),
  "--jwt-secret": optional(text({ secret: true, minLength: 32 })),
  "--service-host": text({ fallback: "127.0.0.1" }),
  "--service-port": integer({ min: 1, max: 65_535, fallback: 8_090 }),
  "--json": toggle(),
  "--list": toggle(),
};

/** Environment variables for secrets, to keep them off the command line. */
const variables = { "--api-token": "PRIVATE_API_TOKEN", "--jwt-secret": "AUTH_JWT_SECRET" };

type Values = SettingValues<typeof settings>;
export type AttackSettings = Values & { readonly attacks: readonly Attack[] };

/** Reads the command line; an invalid argument ends the program with exit code 78. */
export function readAttackSettings(): AttackSettings {
  let attacks: readonly Attack[] = [];
  const values = readArguments(settings, variables, (read) => {
    try {
      attacks = chosenAttacks(read["--only"]?.split(",") ?? []);
    } catch (error) {
      return [`--only: ${(error as Error).message}`];
    }
    return missingFlags(read);
  });
  return { ...values, attacks };
}

/** A named deployment needs all of its flags. A token in the environment names none. */
function missingFlags(read: Values): string[] {
  const parts = ["--gateway", "--admin", "--api"] as const;
  if (parts.every((name) => read[name] === undefined)) return [];
  return ([...parts, "--api-token", "--jwt-secret"] as const)
    .filter((name) => read[name] === undefined)
    .map((name) => `${name}: is required with a running deployment`);
}
