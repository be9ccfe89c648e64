/**
 * The hop from gateway to private API: one long request per stream, a JSON line for each question, and a JSON line for
 * each answer as it comes. The gateway opens with a hello line and ends the stream when it has its answers; the private
 * API may ask for that with a drain line.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { isTooDeep } from "../json.ts";

export const relayPath = "/v1/relay";
export const relayContentType = "application/x-ndjson";
/** In characters. A line holds one message of a client and its identity, or one answer of a service. */
export const maxRelayLineLength = 4 * 1024 * 1024;

const Identity = Type.Object({
  user: Type.String(),
  sessionId: Type.String(),
  tenant: Type.Optional(Type.String()),
  claims: Type.Record(Type.String(), Type.Unknown()),
});
const common = { id: Type.Integer(), identity: Identity, traceparent: Type.String(), timeoutMs: Type.Integer() };

/** A client's event for the service of its route. */
export const RelayCall = Type.Object({
  ...common,
  kind: Type.Literal("call"),
  event: Type.String(),
  eventId: Type.String(),
  data: Type.Unknown(),
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

export const RelayHello = Type.Object({ hello: Type.Literal(1), node: Type.String() });
export const RelayQuestion = Type.Union([RelayCall, RelayConnect, RelaySubscribe]);

const WireErrorSchema = Type.Object({
  code: Type.String(),
  message: Type.String(),
  retryable: Type.Boolean(),
  retryAfterMs: Type.Optional(Type.Number()),
  status: Type.Optional(Type.Integer()),
  details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});
export const RelayAnswer = Type.Union([
  Type.Object({ id: Type.Integer(), ok: Type.Literal(true), data: Type.Unknown() }),
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

/** What a hook may grant: the connect hook further channels, both what others see of the user. */
const HookGrant = Type.Object({
  channels: Type.Optional(Type.Array(Type.String({ maxLength: 256 }), { maxItems: 1_000 })),
  info: Type.Optional(Type.Unknown()),
});
export type HookGrant = Static<typeof HookGrant>;
export const hookGrantValidator = Compile(HookGrant);

/** It is shown to everybody in a channel, and travels in what a client carries. */
const maxInfoBytes = 1024;

export function isPresentableInfo(info: unknown): boolean {
  return !isTooDeep(info) && Buffer.byteLength(JSON.stringify(info)) <= maxInfoBytes;
}
