import { Type, type Static } from "typebox";
import { commonSettings, settingsWithoutEffect } from "../shared/program/common-settings.ts";
import { redisFindings } from "../shared/redis/settings.ts";
import {
  about,
  headerTokenFinding,
  integer,
  isHeaderToken,
  json,
  list,
  optional,
  port,
  text,
} from "../shared/runtime/setting-kinds.ts";
import { excerpt } from "../shared/runtime/excerpt.ts";
import {
  type Environment,
  maskedSettings,
  readSettings,
  type Setting,
  type SettingValues,
} from "../shared/runtime/settings.ts";
import { parseNetwork } from "../shared/services/internet-addresses.ts";
import { unknownSettings } from "../shared/runtime/unknown-settings.ts";

export const scopes = ["publish", "users", "read", "rules", "operate", "relay", "endpoints"] as const;
export type Scope = (typeof scopes)[number];

function networks(): Setting<readonly string[]> {
  const items = list(Type.String({ title: "network" }), { fallback: [] });
  const parse = (text: string): unknown => {
    const given = items.parse(text) as string[];
    const wrong = given.find((network) => !parseNetwork(network));
    if (wrong !== undefined) throw new Error(`"${excerpt(wrong)}" is no address and no network such as 10.1.0.0/16`);
    return given;
  };
  return { ...items, parse };
}

const minTokenLength = 16;
const Tokens = Type.Array(
  Type.Object(
    {
      name: Type.String({ minLength: 1 }),
      token: Type.String({ minLength: minTokenLength }),
      scopes: Type.Array(Type.Enum([...scopes])),
    },
    { additionalProperties: false },
  ),
  { title: "JSON" },
);
export type ApiTokens = Static<typeof Tokens>;

export const privateApiSettings = {
  ...commonSettings,
  PRIVATE_API_HOST: about("Address that the door listens on.", text({ fallback: "0.0.0.0" })),
  PRIVATE_API_PORT: about("Port of the door; 0: the system chooses.", port(8081)),
  PRIVATE_API_TOKENS: about(
    `Tokens of callers as JSON: \`[{ "name", "token" (at least ${minTokenLength} characters), "scopes" }]\`. Scopes: ${scopes.map((scope) => `\`${scope}\``).join(", ")}.`,
    json<ApiTokens>(Tokens, { secret: true }),
  ),
  PRIVATE_API_STOP_SECONDS: about("Longest time for a stop.", integer({ min: 1, max: 3_600, fallback: 30 })),
  DISPATCH_CONCURRENCY: about(
    "Deliveries of queued items that this process has under way at once; 0: it delivers none.",
    integer({ min: 0, max: 10_000, fallback: 256 }),
  ),
  DISPATCH_CLASSES: about(
    "Classes whose items this process delivers; all where it is not set.",
    optional(list(Type.String({ minLength: 1 }))),
  ),
  ENDPOINT_ALLOWED_NETWORKS: about(
    "Networks that endpoints may be in although they are not public, such as `10.1.0.0/16`.",
    networks(),
  ),
  CHANGES_MAX_BYTES: about(
    "Most bytes of the change log, of all slots together (SPEC, CHG-3).",
    integer({ min: 1, max: 1_099_511_627_776, fallback: 1_073_741_824 }),
  ),
  CHANGES_MAX_SECONDS: about(
    "Longest time for which the change log keeps a change.",
    integer({ min: 1, max: 31_536_000, fallback: 259_200 }),
  ),
  RULES_FILE: about(
    "YAML or JSON file with the rules, read again when it changes. Without it: `PUT /v1/rules`.",
    optional(text()),
  ),
};

const prefixes = ["PRIVATE_API_", "REDIS_", "DISPATCH_", "CHANGES_", "ENDPOINT_"];
/** Settings of the gateway: one environment may serve both programs. */
const settingsOfOthers = ["PRIVATE_API_URL", "PRIVATE_API_TOKEN"];

export type PrivateApiConfig = SettingValues<typeof privateApiSettings>;

/**
 * @param options.embedded both programs in one process: Redis is optional.
 * @throws SettingsError listing everything that must be changed.
 */
export function readPrivateApiConfig(environment: Environment, options: { embedded: boolean }): PrivateApiConfig {
  const refine = (values: PrivateApiConfig): string[] => {
    const findings = redisFindings(values, !options.embedded);
    const given: unknown = values.PRIVATE_API_TOKENS;
    const tokens = Array.isArray(given) ? given.map((entry: { token?: unknown } | null) => entry?.token) : [];
    for (const [index, given] of tokens.entries()) {
      if (typeof given === "string" && !isHeaderToken(given)) {
        findings.push(`PRIVATE_API_TOKENS: item ${index + 1}.token: ${headerTokenFinding}`);
      }
    }
    if (new Set(tokens).size < tokens.length) findings.push("PRIVATE_API_TOKENS: two entries have the same token");
    return findings;
  };
  return readSettings(privateApiSettings, environment, refine, unknownPrivateApiSettings(environment));
}

/** One line for each variable that looks like a setting and is none. */
export function unknownPrivateApiSettings(environment: Environment): readonly string[] {
  const names = [...Object.keys(privateApiSettings), ...settingsOfOthers, ...settingsWithoutEffect];
  return unknownSettings(environment, { names, prefixes });
}

/** For the log. */
export function maskedPrivateApiConfig(config: PrivateApiConfig): Record<string, unknown> {
  return maskedSettings(privateApiSettings, config);
}
