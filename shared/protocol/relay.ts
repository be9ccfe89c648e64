/**
 * The hop from gateway to private API: one long request per stream, a line for each question, and a line for each answer as
 * it comes. The gateway opens with a hello line and ends the stream when it has its answers; the private API may ask for
 * that with a drain line.
 *
 * A line is a head as JSON, which begins with the question's id, and where there is one a payload behind a tab: JSON text in
 * one line that is passed on as it was written. `JSON.stringify` writes no raw tab, so the first tab ends the head. Only the
 * head is parsed; the payload is scanned.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { isTooDeep, parseJson } from "../json/json.ts";
import { scanJson } from "../json/json-scan.ts";
import type { Line } from "../json/lines.ts";
import { maxAnswerBytes, maxPayloadBytes } from "./limits.ts";

export const relayPath = "/v1/relay";
export const relayContentType = "application/x-ndjson";
/** A private API refuses a gateway of another version: by this header, and before it was there by the hello. */
export const relayVersion = 2;
export const relayVersionHeader = "tidegate-relay";
/** The identity with its claims is most of a question's head, a service's own code and message most of an answer's. */
const maxHeadBytes = 128 * 1024;
export const maxQuestionLineBytes = maxHeadBytes + 1 + maxPayloadBytes;
export const maxAnswerLineBytes = maxHeadBytes + 1 + maxAnswerBytes;

const Identity = Type.Object({
  user: Type.String(),
  sessionId: Type.String(),
  tenant: Type.Optional(Type.String()),
  claims: Type.Record(Type.String(), Type.Unknown()),
});
const common = { id: Type.Integer(), identity: Identity, traceparent: Type.String(), timeoutMs: Type.Integer() };

/** A client's event for the service of its route. The payload is its data. */
export const RelayCall = Type.Object({
  ...common,
  kind: Type.Literal("call"),
  event: Type.String(),
  eventId: Type.String(),
});
/** May this session begin? */
export const RelayConnect = Type.Object({
  ...common,
  kind: Type.Literal("connect"),
  address: Type.String(),
  userAgent: Type.String(),
});
/** May this session follow the channel? */
export const RelaySubscribe = Type.Object({ ...common, kind: Type.Literal("subscribe"), channel: Type.String() });

export const RelayHello = Type.Object({ hello: Type.Literal(relayVersion), node: Type.String() });
export const RelayQuestion = Type.Union([RelayCall, RelayConnect, RelaySubscribe]);

const WireErrorSchema = Type.Object({
  code: Type.String(),
  message: Type.String(),
  retryable: Type.Boolean(),
  retryAfterMs: Type.Optional(Type.Number()),
  status: Type.Optional(Type.Integer()),
});
/** The payload is the data, or the details of the error, where it has any. */
export const RelayAnswer = Type.Union([
  Type.Object({ id: Type.Integer(), ok: Type.Literal(true) }),
  Type.Object({ id: Type.Integer(), ok: Type.Literal(false), error: WireErrorSchema }),
]);
export const RelayDrain = Type.Object({ drain: Type.Literal(true) });

export type RelayCall = Static<typeof RelayCall>;
export type RelayConnect = Static<typeof RelayConnect>;
export type RelaySubscribe = Static<typeof RelaySubscribe>;
export type RelayQuestion = Static<typeof RelayQuestion>;
export type RelayAnswer = Static<typeof RelayAnswer>;

export const relayFromGateway = Compile(Type.Union([RelayHello, RelayQuestion]));
export const relayFromPrivateApi = Compile(Type.Union([RelayDrain, RelayAnswer]));

export type RelayLine<Head> =
  | { kind: "read"; head: Head; payload: string | undefined }
  /** `id`: of the question that the line is about, where at least that can be told. */
  | { kind: "unreadable"; id: number | undefined; reason: string };

/** @param head JSON text, of `JSON.stringify`. @param payload JSON text in one line. */
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
  if (cut) return unreadable("it is too long");
  const text = bytes.toString("utf8");
  const end = text.indexOf("\t");
  const head = parseJson(end === -1 ? text : text.slice(0, end));
  if (!heads.Check(head)) return unreadable("its head does not follow the schema");
  if (end === -1) return { kind: "read", head, payload: undefined };
  if (scanJson(bytes, bytes.indexOf(tab) + 1).kind !== "json") {
    return unreadable("its payload is no JSON, or nested too deep");
  }
  return { kind: "read", head, payload: text.slice(end + 1) };
}

/** What a hook may grant: the connect hook further channels, both what others see of the user. */
const HookGrant = Type.Object({
  channels: Type.Optional(Type.Array(Type.String({ maxLength: 256 }), { maxItems: 1_000 })),
  info: Type.Optional(Type.Unknown()),
});
export type HookGrant = Static<typeof HookGrant>;
const hookGrantValidator = Compile(HookGrant);

/** Undefined for what is no grant. @param text JSON, scanned before. */
export function readHookGrant(text: string): HookGrant | undefined {
  const grant = parseJson(text);
  return hookGrantValidator.Check(grant) ? grant : undefined;
}

/** It is shown to everybody in a channel, and travels in what a client carries. */
const maxInfoBytes = 1024;

export function isPresentableInfo(info: unknown): boolean {
  return !isTooDeep(info) && Buffer.byteLength(JSON.stringify(info)) <= maxInfoBytes;
}
