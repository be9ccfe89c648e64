/** Endpoints in the form in which API callers send them, and in which answers show them. */
import { isIP } from "node:net";
import { type Static, type TSchema, Type } from "typebox";
import { Value } from "typebox/value";
import {
  attemptsSeconds,
  type EndpointHealth,
  keptAttempts,
  type StoredEndpoint,
} from "../../shared/endpoints/contract.ts";
import { type Endpoint, endpointModes, maxEndpointBytes, stateOf } from "../../shared/endpoints/endpoint.ts";
import { maxSecrets, secretKey } from "../../shared/endpoints/secrets.ts";
import { secretHeader } from "../../shared/http/secret-headers.ts";
import { wellFormedPattern } from "../../shared/protocol/grammar.ts";
import { maxTenantLength } from "../../shared/protocol/limits.ts";
import { pointOf, pointsPerPercent } from "../../shared/rollouts/point.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { InternetAddresses } from "../../shared/services/internet-addresses.ts";

const channelOrPrefix =
  /^([a-z0-9_-]{1,32}:[A-Za-z0-9_.:@/-]{1,200}|([a-z0-9_-]{0,32}|[a-z0-9_-]{1,32}:[A-Za-z0-9_.:@/-]{0,200})\*)$/;
const eventOrPrefix = /^([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}|([A-Za-z0-9][A-Za-z0-9_.:-]{0,126})?\*)$/;
const keyPattern = /^(channel|(\/([^~/]|~[01])*)+)$/;
const headerName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/;
/** Of the request itself, or set by this program. */
const ownHeaders =
  /^(host|connection|proxy-connection|keep-alive|upgrade|te|trailer|expect|content-.*|transfer-encoding|accept-encoding|user-agent|webhook-.*|tidegate-.*)$/i;
/** Within the lengths that DNS allows, with or without a final dot. */
const hostName = /^(?=.{1,253}\.?$)([^.]{1,63}\.)*[^.]{1,63}\.?$/;
const maxHeaders = 20;
const maskedValue = "***";
/** Most pairs of a channel and an event: every process keeps an entry for each pair. */
const maxPairs = 1_000;

const closed = { additionalProperties: false } as const;
const members = {
  url: Type.String({ minLength: 1, maxLength: 2_048, description: "http or https; redirects are not followed" }),
  channels: Type.Array(Type.String({ pattern: channelOrPrefix.source }), {
    minItems: 1,
    maxItems: 100,
    uniqueItems: true,
    description: "Channels, or prefixes and a final `*`",
  }),
  events: Type.Optional(
    Type.Array(Type.String({ pattern: eventOrPrefix.source }), {
      minItems: 1,
      maxItems: 100,
      uniqueItems: true,
      description: 'Events, or prefixes and a final `*`; `["*"]` without it',
    }),
  ),
  mode: Type.Optional(Type.Enum([...endpointModes, "paused"])),
  key: Type.Optional(
    Type.String({
      pattern: keyPattern.source,
      maxLength: 256,
      description: "What stays in order: `channel`, or a JSON pointer into the data",
    }),
  ),
  headers: Type.Optional(
    Type.Record(Type.String(), Type.String({ pattern: "^[\\x20-\\x7e]*$", maxLength: 1_024 }), {
      maxProperties: maxHeaders,
      description: "Sent with each request",
    }),
  ),
  timeoutMs: Type.Optional(Type.Integer({ minimum: 100, maximum: 60_000 })),
  maxInFlight: Type.Optional(Type.Integer({ minimum: 1, maximum: 256, description: "Requests at once" })),
  perSecond: Type.Optional(Type.Number({ minimum: 0.01, maximum: 10_000, description: "Requests a second" })),
  description: Type.Optional(Type.String({ maxLength: 500, pattern: wellFormedPattern.source })),
};

export const NewEndpoint = Type.Object(
  {
    ...members,
    secrets: Type.Optional(
      Type.Array(Type.String(), {
        minItems: 1,
        maxItems: maxSecrets,
        uniqueItems: true,
        description: "`whsec_` and the base64 of 24 to 64 bytes; a new one without it",
      }),
    ),
    tenant: Type.Optional(Type.String({ minLength: 1, maxLength: maxTenantLength, pattern: wellFormedPattern.source })),
  },
  closed,
);
export type NewEndpoint = Static<typeof NewEndpoint>;

export const EndpointPatch = Type.Object(
  {
    ...members,
    url: Type.Optional(members.url),
    channels: Type.Optional(members.channels),
    perSecond: Type.Optional(Type.Union([members.perSecond, Type.Null()])),
    description: Type.Optional(Type.Union([members.description, Type.Null()])),
  },
  { ...closed, minProperties: 1 },
);
export type EndpointPatch = Static<typeof EndpointPatch>;

export const EndpointPath = Type.Object({ id: Type.String() });
export type EndpointPath = Static<typeof EndpointPath>;

const defaults = { events: ["*"], key: "channel", headers: {}, timeoutMs: 15_000, maxInFlight: 16 };

/** @throws TidegateError with every finding */
export function endpointOf(
  id: string,
  { mode = "live", secrets: _secrets, ...given }: NewEndpoint,
  secrets: readonly string[],
  addresses: InternetAddresses,
): Endpoint {
  const endpoint: Endpoint = {
    ...defaults,
    ...given,
    id,
    secrets: secrets.map((secret) => ({ secret })),
    ...modeMembers(mode),
  };
  assertValid(endpoint, endpoint, addresses);
  return endpoint;
}

/** @throws TidegateError with every finding */
export function patched(
  endpoint: Endpoint,
  { mode, perSecond, description, ...given }: EndpointPatch,
  addresses: InternetAddresses,
): Endpoint {
  const { perSecond: oldRate, description: oldText, halted, reason, stopping, ...others } = endpoint;
  const rate = perSecond === undefined ? oldRate : perSecond;
  const text = description === undefined ? oldText : description;
  const changed: Endpoint = {
    ...others,
    ...given,
    ...(typeof rate === "number" && { perSecond: rate }),
    ...(typeof text === "string" && { description: text }),
    ...(mode === undefined
      ? {
          ...(halted && { halted }),
          ...(reason !== undefined && { reason }),
          ...(stopping !== undefined && { stopping }),
        }
      : modeMembers(mode, endpoint)),
  };
  assertValid(changed, given, addresses);
  return changed;
}

function modeMembers(
  mode: NonNullable<NewEndpoint["mode"]>,
  before: Pick<Endpoint, "mode"> = { mode: "live" },
): Pick<Endpoint, "mode" | "halted"> {
  return mode === "paused" ? { mode: before.mode, halted: "paused" } : { mode };
}

/** Findings beyond those of the schema, in a body that the schema rejects. */
export function bodyFindings(
  body: unknown,
  { properties }: typeof NewEndpoint | typeof EndpointPatch,
  addresses: InternetAddresses,
): string[] {
  const { url, channels, events, headers, secrets } = (body ?? {}) as Partial<Record<keyof NewEndpoint, unknown>>;
  const areNamed = isValid(members.channels, channels) && isValid(members.events, events);
  return [
    ...(isValid(members.url, url) ? urlFindings(url, addresses) : []),
    ...(areNamed ? filterFindings({ channels, events }) : []),
    ...(typeof headers === "object" && headers ? headerFindings(headers as Record<string, unknown>) : []),
    ...("secrets" in properties && isValid(properties.secrets, secrets) ? secretFindings(secrets) : []),
  ];
}

function isValid<Schema extends TSchema>(schema: Schema, value: unknown): value is Static<Schema> {
  return value !== undefined && Value.Check(schema, value);
}

/** @param given the members to check. The others may be older than a check, and must not keep the endpoint from being paused */
function assertValid(
  endpoint: Endpoint,
  { url, channels, events, headers, secrets = [] }: Partial<Endpoint>,
  addresses: InternetAddresses,
): void {
  const errors = [
    ...(url === undefined ? [] : urlFindings(url, addresses)),
    ...(channels || events ? filterFindings(endpoint) : []),
    ...(headers ? headerFindings(headers) : []),
    ...secretFindings(secrets.map(({ secret }) => secret)),
  ];
  if (isTooLarge(endpoint)) errors.push(tooLarge);
  if (errors.length > 0) {
    throw new TidegateError("invalid_request", `the endpoint is not valid: ${errors.join("; ")}`, { errors });
  }
}

const tooLarge = `the endpoint is larger than ${maxEndpointBytes} bytes of JSON`;

function isTooLarge(endpoint: Endpoint): boolean {
  return Buffer.byteLength(JSON.stringify(endpoint)) > maxEndpointBytes;
}

/** @throws TidegateError `invalid_request` */
export function assertEndpointSize(endpoint: Endpoint): void {
  if (isTooLarge(endpoint)) throw new TidegateError("invalid_request", `${tooLarge}: name fewer channels, or a cursor`);
}

function urlFindings(text: string, addresses: InternetAddresses): string[] {
  const url = /^https?:\/\/[^\s\p{Cc}/\\][^\s\p{Cc}]*$/iu.test(text) ? URL.parse(text) : null;
  if (!url) return ["/url: must be an http or https URL"];
  const findings: string[] = [];
  if (url.port === "0") findings.push("/url: must not have port 0");
  if (url.username !== "" || url.password !== "") {
    findings.push("/url: must have no user and password: give them as a header");
  }
  if (text.includes("#")) findings.push("/url: must have no fragment");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isName = isIP(host) === 0;
  if (isName && !hostName.test(host)) {
    findings.push("/url: must have a host whose parts between dots have 1 to 63 characters, together 253 at most");
  }
  const refusal = isName ? undefined : addresses.refusal(host);
  if (refusal !== undefined) {
    findings.push(`/url: ${excerpt(host)} ${refusal}: an operator can allow it with ENDPOINT_ALLOWED_NETWORKS`);
  }
  return findings;
}

function filterFindings({ channels, events }: Pick<Endpoint, "channels" | "events">): string[] {
  return channels.length * events.length > maxPairs
    ? [`/events: the number of events times that of channels must be at most ${maxPairs}`]
    : [];
}

function secretFindings(secrets: readonly string[]): string[] {
  return secrets.flatMap((secret, index) =>
    secretKey(secret) ? [] : [`/secrets/${index}: must be "whsec_" and the base64 of 24 to 64 bytes`],
  );
}

function headerFindings(headers: Readonly<Record<string, unknown>>): string[] {
  const names = new Set<string>();
  return Object.entries(headers).flatMap(([name, value]) => {
    const isKnown = names.has(name.toLowerCase());
    names.add(name.toLowerCase());
    if (isKnown) return [`/headers/${excerpt(name)}: is given twice: upper and lower case are the same name`];
    if (!headerName.test(name)) return [`/headers/${excerpt(name)}: is no name of a header`];
    if (ownHeaders.test(name)) return [`/headers/${excerpt(name)}: is set by Tidegate`];
    const isMask = secretHeader.test(name) && value === maskedValue;
    return isMask ? [`/headers/${excerpt(name)}: is the mask of an answer: give the value itself`] : [];
  });
}

/** From 0 to 99.99, uniformly distributed over endpoints; the same for as long as the endpoint exists. */
export function rolloutPoint({ id }: Pick<Endpoint, "id">): number {
  return pointOf("endpoint", { client: id }) / pointsPerPercent;
}

export interface Lag {
  changes: number;
  ms: number;
}

/** For answers: without secrets. */
export function endpointView(
  { endpoint, createdAt }: StoredEndpoint,
  { lag, health }: { lag: Lag; health: EndpointHealth },
): object {
  const {
    secrets: _secrets,
    headers,
    halted: _halted,
    after: _after,
    othersFromLedger: _othersFromLedger,
    stopping,
    ...shown
  } = endpoint;
  const shownHeaders = Object.entries(headers).map(([name, value]) => [
    name,
    secretHeader.test(name) ? maskedValue : value,
  ]);
  return {
    ...shown,
    headers: Object.fromEntries(shownHeaders),
    state: stateOf(endpoint),
    ...(stopping !== undefined && { stopping: true }),
    point: rolloutPoint(endpoint),
    createdAt,
    lag,
    ...health,
  };
}

export const EndpointAnswer = Type.Object({
  id: Type.String(),
  ...members,
  tenant: Type.Optional(Type.String()),
  state: Type.Enum([...endpointModes, "paused", "disabled"]),
  stopping: Type.Optional(Type.Boolean({ description: "It becomes a shadow once what is queued for it is sent" })),
  reason: Type.Optional(Type.String({ description: "Why it is disabled" })),
  point: Type.Number({ description: "It is one of the first p percent of all endpoints where it is less than p" }),
  createdAt: Type.Integer({ description: "Unix ms" }),
  lag: Type.Object({
    changes: Type.Integer({ description: "That wait for it; an estimate while it is behind" }),
    ms: Type.Integer({ description: "Age of the oldest one, as far as it is known" }),
  }),
  failingSince: Type.Optional(Type.Integer({ description: "Unix ms of the first failure since its last success" })),
  lastError: Type.Optional(
    Type.Object({ at: Type.Integer(), status: Type.Optional(Type.Integer()), message: Type.String() }),
  ),
});

export const attemptsDescription = `The last ${keptAttempts}, newest first, for ${attemptsSeconds / 86_400} days`;
