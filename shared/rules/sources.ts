/** Sources of webhooks in the rules document: their schema and further checks. Pure. */
import { type Static, Type } from "typebox";

const closed = { additionalProperties: false } as const;
const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" });
const Event = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$" });
/** The gateway reads the variable from its own environment: a secret itself is never in the document. */
const Variable = Type.String();
const variablePattern = /^env:[A-Za-z_][A-Za-z0-9_]*$/;
const headerName = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}";
const pointer = "(/([^~/]|~[01])*)+";
/** Where a value is: `body:/a/b`, `body:Field` of a form, `header:name`, `path:1` (after the source), `query:name`. */
const Selector = Type.String({ maxLength: 256 });
const selectorPattern = new RegExp(`^(body:(${pointer}|[^/].*)|header:${headerName}|path:[1-9]|query:.+)$`);
const selectorForms = "body:/json/pointer, body:FormField, header:name, path:1 to path:9, or query:name";
const pointerPattern = new RegExp(`^${pointer}$`);
const signedHeaderPattern = new RegExp(`^header:${headerName}$`);

const Scheme = Type.Enum([
  "standard-webhooks",
  "github",
  "stripe",
  "slack",
  "shopify",
  "meta",
  "twilio",
  "hmac",
  "none",
]);

const Hmac = Type.Object(
  {
    /** Carries the signature. */
    header: Type.String({ pattern: `^${headerName}$` }),
    algorithm: Type.Optional(Type.Enum(["sha1", "sha256", "sha384", "sha512"])),
    encoding: Type.Optional(Type.Enum(["hex", "base64", "base64url"])),
    /** Template: `{body}`, `{timestamp}`, `{header:name}`. */
    signed: Type.Optional(Type.String({ minLength: 1, maxLength: 1_024 })),
    /** The header with the Unix time in seconds or milliseconds. */
    timestamp: Type.Optional(Type.String({ pattern: `^(header:)?${headerName}$` })),
    toleranceSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 })),
  },
  closed,
);

export const Source = Type.Object(
  {
    verify: Scheme,
    /** For rotation: a webhook needs to match one of them. */
    secrets: Type.Optional(Type.Array(Variable, { minItems: 1, maxItems: 5 })),
    /** Of the GET challenge of `meta`. */
    verifyToken: Type.Optional(Variable),
    hmac: Type.Optional(Hmac),
    key: Type.Optional(Selector),
    /** Of a repeat the same: it is not stored again within 10 minutes. */
    id: Type.Optional(Selector),
    tenant: Type.Optional(Selector),
    /** The event whose route the webhook takes. */
    route: Event,
    class: Type.Optional(Name),
    /** Status of the answer. */
    answer: Type.Optional(Type.Integer({ minimum: 200, maximum: 299 })),
    /** Pointers into the body, one array within the other: each item of the last is a part of its own. */
    split: Type.Optional(Type.Array(Type.String({ maxLength: 256 }), { minItems: 1, maxItems: 4 })),
    /** For a route of mode `call`: what happens where the service fails. */
    fallback: Type.Optional(Type.Literal("enqueue")),
    /** While storage is out of reach, the gateway keeps webhooks on its disk. */
    journal: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type SourceRule = Static<typeof Source>;
export type HmacRule = Static<typeof Hmac>;
export type SchemeName = Static<typeof Scheme>;

export const defaultAnswer = 202;
/** By the provider's clock and ours, into the past and into the future. */
export const defaultToleranceSeconds = 300;

const placeholder = /\{([^{}]*)\}/g;

/** The pieces of a template, in order: text, and what stands in its placeholders. */
export function templatePieces(template: string): readonly ({ text: string } | { placeholder: string })[] {
  return template
    .split(placeholder)
    .map((piece, index) => (index % 2 === 0 ? { text: piece } : { placeholder: piece }))
    .filter((piece) => !("text" in piece) || piece.text !== "");
}

/** What the schema cannot say. @param routeOf the route of an event, by the rules of the same document */
export function sourceFindings(
  name: string,
  source: SourceRule,
  rules: {
    routeOf: (event: string) => { readonly mode: "call" | "enqueue" } | undefined;
    hasClass: (name: string) => boolean;
  },
): string[] {
  const path = `sources.${name}`;
  const findings = [...formFindings(path, source), ...verifyFindings(path, source)];
  const route = rules.routeOf(source.route);
  if (!route) findings.push(`${path}.route: no route for the event "${source.route}" (add it under routes)`);
  if (source.class !== undefined && !rules.hasClass(source.class)) {
    findings.push(`${path}.class: no such class: "${source.class}" (add it under classes)`);
  }
  if (route?.mode === "call") {
    if (source.split) findings.push(`${path}.split: not with a route of mode: call, which gets the whole body`);
    if (source.journal && !source.fallback) {
      findings.push(`${path}.journal: with a route of mode: call only beside fallback: enqueue`);
    }
  } else if (route && source.fallback) {
    findings.push(`${path}.fallback: only with a route of mode: call`);
  }
  return findings;
}

/** Texts of a wrong form. Does not quote secrets: one that stands in the document must not reach a log. */
function formFindings(path: string, { secrets = [], verifyToken, split = [], ...source }: SourceRule): string[] {
  const findings: string[] = [];
  const variables = secrets.map((text, index): [string, string] => [`secrets.${index}`, text]);
  if (verifyToken !== undefined) variables.push(["verifyToken", verifyToken]);
  for (const [member, text] of variables) {
    if (variablePattern.test(text)) continue;
    findings.push(`${path}.${member}: must name a variable of the gateway's environment, e.g. env:GITHUB_SECRET`);
  }
  for (const member of ["key", "id", "tenant"] as const) {
    const text = source[member];
    if (text === undefined || selectorPattern.test(text)) continue;
    findings.push(`${path}.${member}: is no selector: write ${selectorForms}`);
  }
  for (const [index, text] of split.entries()) {
    if (!pointerPattern.test(text)) findings.push(`${path}.split.${index}: must be a JSON pointer, e.g. /entry`);
  }
  return findings;
}

function verifyFindings(path: string, { verify, secrets, verifyToken, hmac, split }: SourceRule): string[] {
  const findings: string[] = [];
  if (verify === "none" && secrets) findings.push(`${path}.secrets: not with verify: none, which checks nothing`);
  if (verify !== "none" && !secrets) findings.push(`${path}.secrets: is required with verify: ${verify}`);
  if (verify !== "meta" && verifyToken !== undefined) findings.push(`${path}.verifyToken: only with verify: meta`);
  if (verify === "twilio" && split) findings.push(`${path}.split: not with verify: twilio, which sends forms`);
  if (verify !== "hmac" && hmac) findings.push(`${path}.hmac: only with verify: hmac`);
  if (verify === "hmac") findings.push(...hmacFindings(`${path}.hmac`, hmac));
  return findings;
}

function hmacFindings(path: string, hmac: HmacRule | undefined): string[] {
  if (!hmac) return [`${path}: is required with verify: hmac`];
  const { signed = "{body}", timestamp, toleranceSeconds } = hmac;
  const placeholders = templatePieces(signed).flatMap((piece) => ("placeholder" in piece ? [piece.placeholder] : []));
  const findings = placeholders
    .filter((name) => name !== "body" && name !== "timestamp" && !signedHeaderPattern.test(name))
    .map((name) => `${path}.signed: no such placeholder: {${name}} (there are {body}, {timestamp}, {header:name})`);
  if (!placeholders.includes("body")) findings.push(`${path}.signed: must contain {body}`);
  if (timestamp === undefined) {
    if (toleranceSeconds !== undefined) findings.push(`${path}.toleranceSeconds: only with timestamp`);
    if (placeholders.includes("timestamp")) findings.push(`${path}.signed: {timestamp} needs timestamp`);
  } else {
    const header = `header:${timestamp.replace(/^header:/, "").toLowerCase()}`;
    const isSigned = placeholders.some((name) => name === "timestamp" || name.toLowerCase() === header);
    if (!isSigned) findings.push(`${path}.signed: must contain {timestamp}: without it anybody can change the time`);
  }
  return findings;
}
