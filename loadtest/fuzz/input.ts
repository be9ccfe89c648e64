/** The schema of a fuzzed input: data that can be stored, replayed and minimised. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { Part } from "./parts.ts";

const closed = { additionalProperties: false } as const;
const PartList = Type.Array(Part);
const PauseMs = Type.Integer({ minimum: 1, maximum: 5_000 });

const Text = Type.Object({ text: PartList }, closed);
/** A websocket frame, valid or not. */
const Frame = Type.Object(
  {
    opcode: Type.Integer({ minimum: 0, maximum: 15 }),
    payload: PartList,
    fin: Type.Optional(Type.Literal(false)),
    rsv: Type.Optional(Type.Integer({ minimum: 1, maximum: 7 })),
    masked: Type.Optional(Type.Literal(false)),
    /** The announced length, by default the true one. */
    claims: Type.Optional(Type.Integer({ minimum: 0 })),
    /** Bytes of the extended length, where more than the shortest form. */
    lengthBytes: Type.Optional(Type.Enum([2, 8])),
  },
  closed,
);
const Request = Type.Object(
  {
    method: Type.String(),
    target: PartList,
    headers: Type.Array(Type.Tuple([Type.String(), PartList])),
    body: Type.Optional(PartList),
    /** How the head delimits the body; a number is the announced length. By default the true length. */
    framing: Type.Optional(Type.Union([Type.Literal("chunked"), Type.Literal("none"), Type.Integer({ minimum: 0 })])),
  },
  closed,
);

const Step = Type.Union([
  Text,
  Frame,
  Type.Object({ request: Request }, closed),
  /** Raw bytes. */
  Type.Object({ send: PartList }, closed),
  /** Waits a while for more from the server. */
  Type.Object({ listen: Type.Literal(true) }, closed),
  Type.Object({ pauseMs: PauseMs }, closed),
  /** Waits for the answers to everything before it; the measurement of a cost starts here. */
  Type.Object({ ready: Type.Literal(true) }, closed),
  /** Stops reading. */
  Type.Object({ deaf: Type.Literal(true) }, closed),
  /** A websocket ping whose pong shows that everything before it was handled. */
  Type.Object({ mark: Type.Literal(true) }, closed),
]);
export type Step = Static<typeof Step>;
export type FrameStep = Static<typeof Frame>;
export type RequestStep = Static<typeof Request>;

const doors = ["public", "admin", "private"] as const;
export type Door = (typeof doors)[number];

const Conversation = Type.Object(
  {
    kind: Type.Literal("conversation"),
    door: Type.Enum(doors),
    /** Opened before the steps: a TCP connection, a websocket without a session, or a session. */
    opening: Type.Enum(["bare", "websocket", "session"]),
    steps: Type.Array(Step),
    /** Cuts writes into segments of this size. */
    segmentBytes: Type.Optional(Type.Integer({ minimum: 1 })),
    /** Sends only this many bytes of the steps. */
    cutAtByte: Type.Optional(Type.Integer({ minimum: 0 })),
    /** `answered`: ends once the server has answered everything, or is silent. */
    ending: Type.Enum(["answered", "reset", "half-close"]),
  },
  closed,
);
export type Conversation = Static<typeof Conversation>;

const AnswerStep = Type.Union([
  /** Raw bytes. */
  Type.Object({ send: PartList }, closed),
  /** A line of the relay, in HTTP framing. */
  Type.Object({ line: PartList }, closed),
  Type.Object({ pauseMs: PauseMs }, closed),
  Type.Object({ end: Type.Enum(["half-close", "reset"]) }, closed),
]);
export type AnswerStep = Static<typeof AnswerStep>;

/** The answer of a hostile private API or a hostile service to a call or a hook. */
const Answer = Type.Object(
  {
    kind: Type.Enum(["relay-answer", "service-answer"]),
    asked: Type.Enum(["call", "connect", "subscribe"]),
    steps: Type.Array(AnswerStep),
    /** A large answer: its route has a longer timeout. */
    patient: Type.Optional(Type.Literal(true)),
  },
  closed,
);
export type Answer = Static<typeof Answer>;

export const Input = Type.Union([Conversation, Answer]);
export type Input = Static<typeof Input>;

export const inputValidator = Compile(Input);
