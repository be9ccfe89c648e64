import { Type, type Static } from "typebox";
import { commonSettings, settingsWithoutEffect } from "../shared/program/common-settings.ts";
import { redisFindings } from "../shared/redis/settings.ts";
import {
  type Environment,
  headerTokenFinding,
  integer,
  isHeaderToken,
  json,
  maskedSettings,
  optional,
  port,
  readSettings,
  type SettingValues,
  text,
} from "../shared/runtime/settings.ts";
import { unknownSettings } from "../shared/runtime/unknown-settings.ts";

export const scopes = ["publish", "users", "read", "rules", "operate", "relay"] as const;
export type Scope = (typeof scopes)[number];

const Tokens = Type.Array(
  Type.Object(
    {
      name: Type.String({ minLength: 1 }),
      token: Type.String({ minLength: 16 }),
      scopes: Type.Array(Type.Enum([...scopes])),
    },
    { additionalProperties: false },
  ),
);
export type ApiTokens = Static<typeof Tokens>;

const settings = {
  ...commonSettings,
  PRIVATE_API_HOST: text({ fallback: "0.0.0.0" }),
  PRIVATE_API_PORT: port(8081),
  PRIVATE_API_TOKENS: json<ApiTokens>(Tokens, { secret: true }),
  PRIVATE_API_STOP_SECONDS: integer({ min: 1, max: 3_600, fallback: 30 }),
  /** YAML or JSON. Absent: the rules come through the API. */
  RULES_FILE: optional(text()),
};

const prefixes = ["PRIVATE_API_", "REDIS_"];
/** Of the gateway: one environment may serve both programs. */
const settingsOfOthers = ["PRIVATE_API_URL", "PRIVATE_API_TOKEN"];

export type PrivateApiConfig = SettingValues<typeof settings>;

/**
 * @param options.embedded everything in one process: Redis is not needed.
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
  return readSettings(settings, environment, refine, unknownPrivateApiSettings(environment));
}

/** Variables that look like settings and are none, described. */
export function unknownPrivateApiSettings(environment: Environment): readonly string[] {
  const names = [...Object.keys(settings), ...settingsOfOthers, ...settingsWithoutEffect];
  return unknownSettings(environment, { names, prefixes });
}

/** For the log. */
export function maskedPrivateApiConfig(config: PrivateApiConfig): Record<string, unknown> {
  return maskedSettings(settings, config);
}
