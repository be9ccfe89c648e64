import { Type, type Static } from "typebox";
import { commonSettings } from "../shared/program/common-settings.ts";
import { ProgramSettings } from "../shared/program/program-settings.ts";
import { serviceName } from "../shared/rules/schema.ts";
import * as setting from "../shared/runtime/setting-kinds.ts";
import { excerpt } from "../shared/runtime/excerpt.ts";
import type { SettingValues } from "../shared/runtime/settings.ts";
import { parseNetwork } from "../shared/services/internet-addresses.ts";

export const scopes = ["publish", "users", "read", "rules", "operate", "relay", "endpoints"] as const;
export type Scope = (typeof scopes)[number];

function assertNetwork(text: string): void {
  if (!parseNetwork(text)) throw new Error(`"${excerpt(text)}" is no address and no network such as 10.1.0.0/16`);
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

const table = {
  ...commonSettings,
  PRIVATE_API_HOST: setting.about("Address that the door listens on.", setting.text({ fallback: "0.0.0.0" })),
  PRIVATE_API_PORT: setting.about("Port of the door; 0: the system chooses.", setting.port(8081)),
  PRIVATE_API_TOKENS: setting.about(
    `Tokens of callers as JSON: \`[{ "name", "token" (at least ${minTokenLength} characters), "scopes" }]\`. Scopes: ${scopes.map((scope) => `\`${scope}\``).join(", ")}.`,
    setting.json<ApiTokens>(Tokens, { secret: true }),
  ),
  PRIVATE_API_STOP_SECONDS: setting.about(
    "Longest time for a stop.",
    setting.integer({ min: 1, max: 3_600, fallback: 30 }),
  ),
  DISPATCH_CONCURRENCY: setting.about(
    "Deliveries of queued items that this process has under way at once; 0: it delivers none.",
    setting.integer({ min: 0, max: 10_000, fallback: 256 }),
  ),
  DISPATCH_CLASSES: setting.about(
    "Classes whose items this process delivers; without it, all classes.",
    setting.optional(setting.nonEmptyList(Type.String({ pattern: serviceName.source }))),
  ),
  ENDPOINT_ALLOWED_NETWORKS: setting.about(
    "Networks that endpoints may be in although they are not public, such as `10.1.0.0/16`.",
    setting.checkedList(assertNetwork, { title: "network", fallback: [] }),
  ),
  CHANGES_MAX_BYTES: setting.about(
    "Most bytes of the change log, of all slots together (SPEC, CHG-3).",
    setting.integer({ min: 1, max: 1_099_511_627_776, fallback: 1_073_741_824 }),
  ),
  CHANGES_MAX_SECONDS: setting.about(
    "Longest time for which the change log keeps a change.",
    setting.integer({ min: 1, max: 31_536_000, fallback: 259_200 }),
  ),
  CHANGES_MAX_ROW_BYTES: setting.about(
    "Most bytes of what Redis notes of rows of SQL sources that the change log no longer has (SPEC, SQL-13); 0: they are not read from their tables.",
    setting.integer({ min: 0, max: 1_099_511_627_776, fallback: 268_435_456 }),
  ),
  RULES_FILE: setting.about(
    "YAML or JSON file with the rules, read again when it changes. Without it: `PUT /v1/rules`.",
    setting.optional(setting.text()),
  ),
};

export type PrivateApiConfig = SettingValues<typeof table>;

export const privateApiSettings = new ProgramSettings({
  table,
  prefixes: ["PRIVATE_API_", "REDIS_", "DISPATCH_", "CHANGES_", "ENDPOINT_"],
  ofOtherProgram: ["PRIVATE_API_URL", "PRIVATE_API_TOKEN"],
  refine: (values) => {
    const given: unknown = values.PRIVATE_API_TOKENS;
    const tokens = Array.isArray(given) ? given.map((entry: { token?: unknown } | null) => entry?.token) : [];
    const findings = tokens.flatMap((token, index) =>
      typeof token !== "string" || setting.isHeaderToken(token)
        ? []
        : [`PRIVATE_API_TOKENS: item ${index + 1}.token: ${setting.headerTokenFinding}`],
    );
    if (new Set(tokens).size < tokens.length) findings.push("PRIVATE_API_TOKENS: two entries have the same token");
    return findings;
  },
});
