import { hostname } from "node:os";
import { Type } from "typebox";
import { commonSettings, settingsWithoutEffect } from "../shared/program/common-settings.ts";
import { redisFindings } from "../shared/redis/settings.ts";
import { originPolicy } from "./entrance/allowed-origins.ts";
import { trustedProxies } from "./entrance/client-address.ts";
import {
  type Environment,
  integer,
  list,
  maskedSettings,
  matching,
  nonEmptyList,
  optional,
  port,
  readSettings,
  type Setting,
  type SettingValues,
  text,
  token,
  url,
  urls,
} from "../shared/runtime/settings.ts";
import { unknownSettings } from "../shared/runtime/unknown-settings.ts";

/** HS256 asks for a key as long as its hash. */
const minSecretLength = 32;

const settings = {
  ...commonSettings,
  GATEWAY_HOST: text({ fallback: "0.0.0.0" }),
  GATEWAY_PORT: port(8080),
  GATEWAY_ADMIN_PORT: port(8082),
  /** Names of nodes are compared in several places. Bytes that are not UTF-8 arrive as U+FFFD: two names would be one. */
  GATEWAY_NODE: matching(
    /^[^\p{Cc}\p{Cs}\ufffd]{1,128}$/u,
    "must be at most 128 characters of well-formed Unicode, none of them a control character",
    { fallback: hostname() },
  ),
  GATEWAY_MAX_CONNECTIONS: integer({ min: 1, max: 1_000_000, fallback: 10_000 }),
  /** Of the whole fleet. */
  GATEWAY_ADMISSIONS_PER_SECOND: integer({ min: 1, max: 1_000_000, fallback: 1_000 }),
  /** Of one connection; twice as many may come at once. */
  GATEWAY_MESSAGES_PER_SECOND: integer({ min: 1, max: 1_000_000, fallback: 50 }),
  /** In the fleet; 0: any number. The next two are bounds of a node. */
  GATEWAY_SESSIONS_PER_USER: integer({ min: 0, max: 1_000_000, fallback: 0 }),
  GATEWAY_CONNECTIONS_PER_ADDRESS: integer({ min: 0, max: 1_000_000, fallback: 0 }),
  /** In a second. */
  GATEWAY_CONNECTS_PER_ADDRESS: integer({ min: 0, max: 1_000_000, fallback: 0 }),
  /** Addresses or networks whose `X-Forwarded-For` is believed. */
  TRUSTED_PROXIES: checkedList((network) => trustedProxies([network]), []),
  /** Where clients reach this node, or the balancer in front of all of them. */
  PUBLIC_URL: optional(url({ protocols: ["http:", "https:"] })),
  GATEWAY_DRAIN_SECONDS: integer({ min: 0, max: 3_600, fallback: 30 }),
  /** A session is asked to move after about so long; 0: never. */
  GATEWAY_SESSION_LIFETIME_SECONDS: integer({ min: 0, max: 30 * 86_400, fallback: 0 }),
  /** Origins of pages that may connect beside those of the gateway's own host; `*`: any. Clients that are not browsers send none, and may connect. */
  GATEWAY_ALLOWED_ORIGINS: checkedList((origin) => originPolicy([origin]), ["*"]),
  GATEWAY_TRANSPORTS: list(Type.Enum(["websocket", "polling"]), { fallback: ["websocket"] }),
  PRIVATE_API_URL: urls({ fallback: ["http://127.0.0.1:8081"], protocols: ["http:", "https:"] }),
  PRIVATE_API_TOKEN: token(),
  /** Seal what clients carry; the first seals, any opens. Absent: derived from PRIVATE_API_TOKEN. */
  RESUME_SECRET: optional(nonEmptyList(Type.String({ minLength: minSecretLength }), { secret: true })),
  AUTH_JWT_SECRET: optional(text({ secret: true, minLength: minSecretLength })),
  AUTH_JWKS_URL: optional(url({ protocols: ["http:", "https:"], allows: ["path", "query"] })),
  AUTH_ISSUER: optional(text()),
  AUTH_AUDIENCE: optional(text()),
};

/** @param check throws where an item is not valid. */
function checkedList(check: (item: string) => unknown, fallback: readonly string[]): Setting<readonly string[]> {
  const items = list(Type.String(), { fallback });
  return {
    ...items,
    parse: (value) => {
      const given = items.parse(value) as string[];
      const findings = given.flatMap((item) => {
        try {
          check(item);
          return [];
        } catch (error) {
          return [(error as Error).message];
        }
      });
      if (findings.length > 0) throw new Error(findings.join("; "));
      return given;
    },
  };
}

const prefixes = ["GATEWAY_", "PRIVATE_API_", "AUTH_", "REDIS_"];
/** Of the private API: one environment may serve both programs. */
const settingsOfOthers = [
  "PRIVATE_API_HOST",
  "PRIVATE_API_PORT",
  "PRIVATE_API_TOKENS",
  "PRIVATE_API_STOP_SECONDS",
  "RULES_FILE",
];

export type GatewayConfig = SettingValues<typeof settings>;

/**
 * @param options.embedded everything in one process: Redis is not needed.
 * @throws SettingsError listing everything that must be changed.
 */
export function readGatewayConfig(environment: Environment, options: { embedded: boolean }): GatewayConfig {
  const refine = (values: GatewayConfig): string[] => {
    const findings = redisFindings(values, !options.embedded);
    if (values.AUTH_JWT_SECRET === undefined && values.AUTH_JWKS_URL === undefined) {
      findings.push("AUTH_JWT_SECRET, AUTH_JWKS_URL: set one of them, or both");
    }
    const { GATEWAY_PORT, GATEWAY_ADMIN_PORT } = values;
    if (GATEWAY_PORT === GATEWAY_ADMIN_PORT && GATEWAY_PORT !== 0) {
      findings.push("GATEWAY_PORT, GATEWAY_ADMIN_PORT: must be two ports");
    }
    return findings;
  };
  return readSettings(settings, environment, refine, unknownGatewaySettings(environment));
}

/** Variables that look like settings and are none, described. */
export function unknownGatewaySettings(environment: Environment): readonly string[] {
  const names = [...Object.keys(settings), ...settingsOfOthers, ...settingsWithoutEffect];
  return unknownSettings(environment, { names, prefixes });
}

/** For the log. */
export function maskedGatewayConfig(config: GatewayConfig): Record<string, unknown> {
  return maskedSettings(settings, config);
}
