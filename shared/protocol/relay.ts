/**
 * The protocol between gateway and private API: each stream is one long HTTP request, with one line per question and one line per
 * answer, in any order. The gateway opens a stream with a hello line, and ends it once it has all answers. The private API can
 * request that with a drain line.
 *
 * A line is a head in JSON, which begins with the question's id, and optionally a tab and a payload: JSON text in one line, which
 * is forwarded as written. `JSON.stringify` writes no raw tab, so the first tab ends the head. The head is parsed, the payload
 * only scanned.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { isTooDeep, parseJson } from "../json/json.ts";
import { scanJson } from "../json/json-scan.ts";
import type { Line } from "../json/lines.ts";
import { eventPattern } from "./grammar.ts";
import { maxAnswerBytes, maxPayloadBytes } from "./limits.ts";

export const relayPath = "/v1/relay";
export const relayContentType = "application/x-ndjson";
/** A private API refuses gateways of another version. They send it in this header; older ones only in the hello line. */
export const relayVersion = 2;
export const relayVersionHeader = "tidegate-relay";
/** A question's head is mostly the identity with its claims; an answer's mostly the code and message of a service. */
const maxHeadBytes = 128 * 1024;
export const maxQuestionLineBytes = maxHeadBytes + 1 + maxPayloadBytes;
export const maxAnswerLineBytes = maxHeadBytes + 1 + maxAnswerBytes;

/** Names that are not well-formed could become equal in UTF-8. */
const Name = Type.Refine(Type.String(), (name) => name.isWellFormed());
/** These become headers as they are: no other character may stand in one. */
const HeaderText = Type.String({ pattern: "^[\\x21-\\x7e]{1,256}$" });
const ContentType = Type.String({ pattern: "^[\\x20-\\x7e]+$" });
const Event = Type.String({ pattern: eventPattern.source });
const Identity = Type.Object({
  user: Name,
  sessionId: HeaderText,
  tenant: Type.Optional(Name),
  claims: Type.Record(Type.String(), Type.Unknown()),
});
const common = { id: Type.Integer(), identity: Identity, traceparent: HeaderText, timeoutMs: Type.Integer() };

/** A client's event for the service of its route. The payload is the event's data. */
export const RelayCall = Type.Object({
  ...common,
  kind: Type.Literal("call"),
  event: Event,
  eventId: HeaderText,
});
/** A webhook for the service of its route, whose answer is the provider's. The payload is the body, as a JSON string. */
export const RelayWebhook = Type.Object({
  ...common,
  kind: Type.Literal("webhook"),
  event: Event,
  eventId: HeaderText,
  /** `ce-source` */
  source: HeaderText,
  /** Of a body that is not JSON. */
  contentType: Type.Optional(ContentType),
});
/** Asks the connect hook whether the session may begin. */
export const RelayConnect = Type.Object({
  ...common,
  kind: Type.Literal("connect"),
  address: Type.String(),
  userAgent: Type.String(),
  eventId: Type.Optional(HeaderText),
});
/** Asks the subscribe hook whether the session may follow the channel. */
export const RelaySubscribe = Type.Object({
  ...common,
  kind: Type.Literal("subscribe"),
  channel: Type.String(),
  eventId: Type.Optional(HeaderText),
});

/** Of one kind that a gateway names. */
export const maxProfileSecrets = 16;
const SecretIds = Type.Array(Type.String({ maxLength: 64 }), { maxItems: maxProfileSecrets });
/** What the gateways of a fleet are compared by. */
const GatewayProfile = Type.Object({
  /** Of the process. */
  instance: Type.String({ maxLength: 64 }),
  maxConnections: Type.Integer(),
  /** Ids of its secrets, in their order: the first one seals. */
  resumeSecrets: SecretIds,
  jwtSecrets: SecretIds,
});
export type GatewayProfile = Static<typeof GatewayProfile>;

export const RelayHello = Type.Object({
  hello: Type.Literal(relayVersion),
  node: Type.String(),
  gateway: Type.Optional(GatewayProfile),
});
export const RelayQuestion = Type.Union([RelayCall, RelayWebhook, RelayConnect, RelaySubscribe]);

const WireErrorSchema = Type.Object({
  code: Type.String(),
  message: Type.String(),
  retryable: Type.Boolean(),
  retryAfterMs: Type.Optional(Type.Number()),
  status: Type.Optional(Type.Integer()),
  requestId: Type.Optional(Type.String()),
});
/** The payload is the data, or the details of the error, if any. */
export const RelayAnswer = Type.Union([
  Type.Object({ id: Type.Integer(), ok: Type.Literal(true) }),
  Type.Object({ id: Type.Integer(), ok: Type.Literal(false), error: WireErrorSchema }),
]);
export const RelayDrain = Type.Object({ drain: Type.Literal(true) });

export type RelayHello = Static<typeof RelayHello>;
export type RelayCall = Static<typeof RelayCall>;
export type RelayWebhook = Static<typeof RelayWebhook>;
export type RelayConnect = Static<typeof RelayConnect>;
export type RelaySubscribe = Static<typeof RelaySubscribe>;
export type RelayQuestion = Static<typeof RelayQuestion>;
export type RelayAnswer = Static<typeof RelayAnswer>;

export const relayFromGateway = Compile(Type.Union([RelayHello, RelayQuestion]));
export const relayFromPrivateApi = Compile(Type.Union([RelayDrain, RelayAnswer]));

export type RelayLine<Head> =
  | { kind: "read"; head: Head; payload: string | undefined }
  /** `id`: of the question, if the beginning of the line is readable. */
  | { kind: "unreadable"; id: number | undefined; reason: string };

/** @param head from `JSON.stringify`. @param payload JSON text in one line. */
export function relayLine(head: string, payload?: string): string {
  return payload === undefined ? head : `${head}\t${payload}`;
}

const tab = 0x09;
const idAtBegin = /^\{"id":(\d{1,15})[,}]/;
const idLength = 24;

export function readRelayLine<Head>(
  { bytes, cut }: Line,
  heads: { Check(value: unknown): value is Head },
): RelayLine<Head> {
  const unreadable = (reason: string): RelayLine<Head> => {
    const id = idAtBegin.exec(bytes.toString("latin1", 0, idLength))?.[1];
    return { kind: "unreadable", id: id === undefined ? undefined : Number(id), reason };
  };
  if (cut) return unreadable("the line is too long");
  const text = bytes.toString("utf8");
  const end = text.indexOf("\t");
  const head = parseJson(end === -1 ? text : text.slice(0, end));
  if (!heads.Check(head)) return unreadable("the head does not match the schema");
  if (end === -1) return { kind: "read", head, payload: undefined };
  if (scanJson(bytes, bytes.indexOf(tab) + 1).kind !== "json") {
    return unreadable("the payload is not JSON or nested too deep");
  }
  return { kind: "read", head, payload: text.slice(end + 1) };
}

/** What a service answers to a webhook, for its provider. */
const WebhookReply = Type.Object({
  status: Type.Integer({ minimum: 200, maximum: 299 }),
  contentType: Type.Optional(ContentType),
  body: Type.String(),
});
export type WebhookReply = Static<typeof WebhookReply>;
const webhookReplyValidator = Compile(WebhookReply);

/** @param text valid JSON. @returns undefined where it is no such answer. */
export function readWebhookReply(text: string): WebhookReply | undefined {
  const reply = parseJson(text);
  return webhookReplyValidator.Check(reply) ? reply : undefined;
}

/** The only status with which a hook refuses. The error of such an answer carries it. */
export const hookRefusalStatus = 403;

/** A hook's grant: further channels (connect hook only), and the `info` that others see of the user. */
const HookGrant = Type.Object({
  channels: Type.Optional(Type.Array(Type.String({ maxLength: 256 }), { maxItems: 1_000 })),
  info: Type.Optional(Type.Unknown()),
});
export type HookGrant = Static<typeof HookGrant>;
const hookGrantValidator = Compile(HookGrant);

/** @param text valid JSON. @returns undefined where it is not a grant. */
export function readHookGrant(text: string): HookGrant | undefined {
  const grant = parseJson(text);
  return hookGrantValidator.Check(grant) ? grant : undefined;
}

/** Small, because every member of a channel gets it, and resume tokens contain it. */
const maxInfoBytes = 1024;

export function isPresentableInfo(info: unknown): boolean {
  return !isTooDeep(info) && Buffer.byteLength(JSON.stringify(info)) <= maxInfoBytes;
}
