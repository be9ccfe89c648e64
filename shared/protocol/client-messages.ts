/** Schemas of client messages: the handshake and the `sync:` requests. The types derive from them. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { channelPattern, wellFormedPattern } from "./grammar.ts";
import { maxGrantLength, maxHistoryLimit, maxTokenLength } from "./limits.ts";

const closed = { additionalProperties: false } as const;

const Channel = Type.String({ pattern: channelPattern.source });
const Offset = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Epoch = Type.String({ minLength: 1, maxLength: 64, pattern: wellFormedPattern.source });
export const PositionSchema = Type.Object({ epoch: Epoch, offset: Offset }, closed);

/** `auth` of the Socket.IO handshake. */
export const Handshake = Type.Object({
  token: Type.Optional(Type.String({ maxLength: maxTokenLength })),
  /** Unchecked: a value that the gateway did not seal resumes nothing. */
  resume: Type.Optional(Type.Unknown()),
  protocol: Type.Optional(Type.Integer()),
  /** The client can move: asked to, it connects elsewhere first, then leaves. */
  moves: Type.Optional(Type.Boolean()),
});

export const Subscribe = Type.Object(
  {
    channel: Channel,
    position: Type.Optional(Type.Union([PositionSchema, Type.Null()])),
    grant: Type.Optional(Type.Union([Type.String({ maxLength: maxGrantLength }), Type.Null()])),
  },
  closed,
);
export const Unsubscribe = Type.Object({ channel: Channel }, closed);
export const Presence = Type.Object({ channel: Channel }, closed);
export const History = Type.Object(
  {
    channel: Channel,
    epoch: Type.Optional(Epoch),
    after: Type.Optional(Offset),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: maxHistoryLimit })),
  },
  closed,
);
export const Refresh = Type.Object({ token: Type.String({ minLength: 1, maxLength: maxTokenLength }) }, closed);

/** Second argument of an application event. */
export const CallOptions = Type.Object(
  {
    id: Type.Optional(Type.String({ minLength: 1, maxLength: 200, pattern: wellFormedPattern.source })),
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1 })),
    /** W3C Trace Context, version 00. */
    traceparent: Type.Optional(
      Type.String({ pattern: "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$" }),
    ),
  },
  closed,
);

export type Handshake = Static<typeof Handshake>;
export type Subscribe = Static<typeof Subscribe>;
export type Unsubscribe = Static<typeof Unsubscribe>;
export type Presence = Static<typeof Presence>;
export type History = Static<typeof History>;
export type Refresh = Static<typeof Refresh>;
export type CallOptions = Static<typeof CallOptions>;

/** The `sync:` requests, by event name. */
export const clientRequests = {
  "sync:subscribe": Compile(Subscribe),
  "sync:unsubscribe": Compile(Unsubscribe),
  "sync:history": Compile(History),
  "sync:presence": Compile(Presence),
  "sync:refresh": Compile(Refresh),
};
export const handshakeValidator = Compile(Handshake);
export const callOptionsValidator = Compile(CallOptions);
