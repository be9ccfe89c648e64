import { hostname } from "node:os";
import { Type } from "typebox";
import { commonSettings } from "../shared/program/common-settings.ts";
import { ProgramSettings } from "../shared/program/program-settings.ts";
import { originPolicy } from "./entrance/allowed-origins.ts";
import { trustedProxies } from "./entrance/client-address.ts";
import * as setting from "../shared/runtime/setting-kinds.ts";
import type { SettingValues } from "../shared/runtime/settings.ts";

/** HS256 needs a key as long as its hash. */
const minSecretLength = 32;

const table = {
  ...commonSettings,
  GATEWAY_HOST: setting.about("Address that the public door listens on.", setting.text({ fallback: "0.0.0.0" })),
  GATEWAY_PORT: setting.about("Port of the public door; 0: the system chooses.", setting.port(8080)),
  GATEWAY_ADMIN_PORT: setting.about(
    "Port of the admin door: `/livez`, `/readyz`, `/metrics`, `/load`.",
    setting.port(8082),
  ),
  GATEWAY_ADMIN_HOST: setting.about(
    "Address that the admin door listens on, such as `127.0.0.1` or that of an internal network: it asks for no token.",
    setting.optional(setting.text()),
    "that of `GATEWAY_HOST`",
  ),
  // Nodes are compared by name. Bytes that are not UTF-8 arrive as U+FFFD and would make two names equal.
  GATEWAY_NODE: setting.about(
    "The node's name in the fleet.",
    setting.matching(
      /^[^\p{Cc}\p{Cs}\ufffd]{1,128}$/u,
      "must be at most 128 characters of well-formed Unicode, none of them a control character",
      { fallback: hostname() },
    ),
    "the host's name",
  ),
  GATEWAY_MAX_CONNECTIONS: setting.about(
    "Connections of this node. The default needs 20,612 open files; with fewer the node accepts what fits and logs a warning ([operations](operations.md#open-files-and-connections)).",
    setting.integer({ min: 1, max: 1_000_000, fallback: 10_000 }),
  ),
  GATEWAY_ADMISSIONS_PER_SECOND: setting.about(
    "Connections that the whole fleet admits each second; the nodes share it.",
    setting.integer({ min: 1, max: 1_000_000, fallback: 1_000 }),
  ),
  GATEWAY_MESSAGES_PER_SECOND: setting.about(
    "Messages that one connection may send each second; twice as many at once.",
    setting.integer({ min: 1, max: 1_000_000, fallback: 50 }),
  ),
  GATEWAY_SESSIONS_PER_USER: setting.about(
    "Sessions of one user (of one tenant) in the fleet; 0: any number.",
    setting.integer({ min: 0, max: 1_000_000, fallback: 0 }),
  ),
  GATEWAY_CONNECTIONS_PER_ADDRESS: setting.about(
    "Open connections from one address to this node; 0: any number.",
    setting.integer({ min: 0, max: 1_000_000, fallback: 0 }),
  ),
  GATEWAY_CONNECTS_PER_ADDRESS: setting.about(
    "New connections each second from one address to this node; 0: any number.",
    setting.integer({ min: 0, max: 1_000_000, fallback: 0 }),
  ),
  TRUSTED_PROXIES: setting.about(
    "Addresses and networks (`10.0.0.0/8`) of the balancers whose `X-Forwarded-For` and `X-Forwarded-Proto` the node trusts. Without it all clients behind one balancer share the bounds of one address.",
    setting.checkedList((network) => trustedProxies([network]), { fallback: [] }),
  ),
  PUBLIC_URL: setting.about(
    "Where clients reach this node, or the balancer in front of all nodes, without a path. `GET /v1/bootstrap` answers with it, and Twilio's signatures are checked against it.",
    setting.optional(setting.url({ protocols: ["http:", "https:"] })),
  ),
  GATEWAY_DRAIN_SECONDS: setting.about(
    "Longest time for moving sessions to other nodes before a stop; the stop may take 5 s more.",
    setting.integer({ min: 0, max: 3_600, fallback: 30 }),
  ),
  GATEWAY_SESSION_LIFETIME_SECONDS: setting.about(
    "Time after which the node asks a session to move, plus or minus a tenth; 0: never.",
    setting.integer({ min: 0, max: 30 * 86_400, fallback: 0 }),
  ),
  GATEWAY_ALLOWED_ORIGINS: setting.about(
    "Origins of pages that may connect, beside the gateway's own host: `https://app.example`, `https://*.app.example`, `capacitor://localhost`, `null`; `*`: any. Clients without an origin, such as programs, may connect.",
    setting.checkedList((origin) => originPolicy([origin]), { fallback: ["*"] }),
  ),
  GATEWAY_TRANSPORTS: setting.about(
    "Transports that clients may use. Polling needs sticky balancing.",
    setting.list(Type.Enum(["websocket", "polling"]), { fallback: ["websocket"] }),
  ),
  HOOKS_MAX_BYTES: setting.about(
    "Largest body of a webhook.",
    setting.integer({ min: 1_024, max: 4 * 1024 * 1024, fallback: 1024 * 1024 }),
  ),
  JOURNAL_DIR: setting.about(
    "Folder for webhooks of sources with `journal: true` while storage is out of reach: on a disk of this machine that outlives the process ([webhooks-in](webhooks-in.md#the-journal)). Nodes may share it: each has a folder of its own in it.",
    setting.optional(setting.text()),
  ),
  JOURNAL_MAX_BYTES: setting.about(
    "Largest journal of the node on the disk; past it webhooks are refused.",
    setting.integer({ min: 1024 * 1024, max: 64 * 1024 ** 3, fallback: 1024 ** 3 }),
  ),
  PRIVATE_API_URL: setting.about(
    "Addresses of the private API, without a path.",
    setting.urls({ fallback: ["http://127.0.0.1:8081"], protocols: ["http:", "https:"] }),
  ),
  PRIVATE_API_TOKEN: setting.about("Token of the private API with the scope `relay`.", setting.token()),
  RESUME_SECRET: setting.about(
    "Secrets of resume tokens and grants, the same on all gateways: the first seals, any opens. To rotate it, see [rotation](rotation.md).",
    setting.optional(setting.nonEmptyList(Type.String({ minLength: minSecretLength }), { secret: true })),
    "derived from `PRIVATE_API_TOKEN`",
  ),
  AUTH_JWT_SECRET: setting.about(
    "Secrets of HS256 tokens, comma-separated: a token signed with any of them is valid. Each is used as it is, a line break at its end included. This or `AUTH_JWKS_URL` is required. To rotate it, see [rotation](rotation.md).",
    setting.optional(setting.secrets({ minLength: minSecretLength })),
  ),
  AUTH_JWKS_URL: setting.about(
    "URL of the issuer's public keys, without credentials.",
    setting.optional(setting.url({ protocols: ["http:", "https:"], allows: ["path", "query"] })),
  ),
  AUTH_ISSUER: setting.about("Required `iss` of tokens, where set.", setting.optional(setting.text())),
  AUTH_AUDIENCE: setting.about("Required `aud` of tokens, where set.", setting.optional(setting.text())),
};

export type GatewayConfig = SettingValues<typeof table>;

export const gatewaySettings = new ProgramSettings({
  table,
  prefixes: ["GATEWAY_", "PRIVATE_API_", "AUTH_", "REDIS_"],
  ofOtherProgram: ["HOST", "PORT", "TOKENS", "STOP_SECONDS"].map((name) => `PRIVATE_API_${name}`).concat("RULES_FILE"),
  refine: (values) => {
    const findings: string[] = [];
    if (values.AUTH_JWT_SECRET === undefined && values.AUTH_JWKS_URL === undefined) {
      findings.push("AUTH_JWT_SECRET, AUTH_JWKS_URL: set at least one of them");
    }
    const { GATEWAY_PORT, GATEWAY_ADMIN_PORT } = values;
    if (GATEWAY_PORT === GATEWAY_ADMIN_PORT && GATEWAY_PORT !== 0) {
      findings.push("GATEWAY_PORT, GATEWAY_ADMIN_PORT: must differ");
    }
    return findings;
  },
});
