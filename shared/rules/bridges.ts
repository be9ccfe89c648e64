/** Bridges to Socket.IO fleets in the rules document: their schema and further checks. Pure. */
import { type Static, Type } from "typebox";
import { namespaceOf } from "../protocol/grammar.ts";
import { maxFindings } from "../runtime/schema-errors.ts";
import { type CheckedRooms, checkRooms, meetings, type Template } from "./bridge-rooms.ts";

const closed = { additionalProperties: false } as const;
/** Each is one more server of an old fleet, and a label of metrics. */
export const maxBridges = 16;
const maxRooms = 64;
const variablePattern = /^env:[A-Za-z_][A-Za-z0-9_]*$/;

export const Bridge = Type.Object(
  {
    /** The Redis of the old fleet as `env:NAME`: a URL, with its password, is never in the document. Checked by {@link bridgeFindings}. */
    redis: Type.Unsafe<string>({}),
    /** classic: `createAdapter`; sharded: `createShardedAdapter`, both of @socket.io/redis-adapter; streams: @socket.io/redis-streams-adapter. */
    adapter: Type.Enum(["classic", "sharded", "streams"]),
    /** `key` of the classic adapter, `channelPrefix` of the sharded one, `streamName` and `channelPrefix` of the streams adapter. */
    key: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    /** Entries of the stream, for the streams adapter: as the old servers set it. The bridge trims it, too, whenever it emits. */
    maxLen: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000 })),
    /** Of Socket.IO. */
    namespace: Type.Optional(Type.String({ pattern: "^/[^#]{0,127}$" })),
    /** By room template, the channel template. */
    rooms: Type.Record(Type.String({ minLength: 1, maxLength: 200 }), Type.String({ maxLength: 256 }), {
      maxProperties: maxRooms,
    }),
    /** in: emits become publications. out: publications become emits. */
    direction: Type.Optional(Type.Enum(["both", "in", "out"])),
  },
  closed,
);
export type BridgeRule = Static<typeof Bridge>;

/** As the adapters have them, but for the direction. */
export const bridgeDefaults = { key: "socket.io", namespace: "/", maxLen: 10_000, direction: "both" } as const;

/** Whether emits of the old fleet become publications. */
export function carriesIn({ direction = bridgeDefaults.direction }: BridgeRule): boolean {
  return direction !== "out";
}

/** Whether publications become emits of the old fleet. */
export function carriesOut({ direction = bridgeDefaults.direction }: BridgeRule): boolean {
  return direction !== "in";
}

/** The variable with the URL of the old fleet's Redis. */
export function redisVariable({ redis }: Pick<BridgeRule, "redis">): string {
  return redis.slice("env:".length);
}

/**
 * What the schema cannot say. Does not quote URLs: they contain passwords.
 * @param keepsChanges whether publications of a namespace are in the change log, by the rules of the same document
 */
export function bridgeFindings(
  bridges: readonly (readonly [name: string, BridgeRule])[],
  keepsChanges: (namespace: string) => boolean,
): string[] {
  const findings: string[] = [];
  if (bridges.length > maxBridges) findings.push(`bridges: has ${bridges.length} entries, more than ${maxBridges}`);
  const owners = new Map<Template, string>();
  // Further ones would take more time than a request may.
  for (const [name, bridge] of bridges.slice(0, maxBridges)) {
    const rooms = checkRooms(`bridges.${name}.rooms`, bridge.rooms);
    findings.push(...rooms.findings, ...fleetFindings(name, bridge));
    if (carriesOut(bridge)) findings.push(...unkeptFindings(name, rooms, keepsChanges));
    for (const channel of rooms.channels) owners.set(channel, name);
  }
  for (const [one, other] of meetings([...owners.keys()])) {
    // Where all channels meet there are half a million.
    if (findings.length > maxFindings) break;
    const [name, otherName] = [owners.get(one), owners.get(other)];
    findings.push(
      name === otherName
        ? `bridges.${name}.rooms: a channel can match both "${one.text}" and "${other.text}"`
        : // What one bridge has published would be emitted by the other, and come back where both join the same fleet.
          `bridges.${otherName}.rooms: a channel can match "${other.text}" and "${one.text}" of bridges.${name}: a channel belongs to one bridge`,
    );
  }
  return findings;
}

function fleetFindings(name: string, { redis, adapter, maxLen }: BridgeRule): string[] {
  const path = `bridges.${name}`;
  const findings: string[] = [];
  if (typeof redis !== "string" || !variablePattern.test(redis)) {
    findings.push(`${path}.redis: must name a variable of the private API's environment, e.g. env:LEGACY_REDIS_URL`);
  }
  if (maxLen !== undefined && adapter !== "streams")
    findings.push(`${path}.maxLen: only the streams adapter has a stream`);
  return findings;
}

function unkeptFindings(
  name: string,
  { channels }: CheckedRooms,
  keepsChanges: (namespace: string) => boolean,
): string[] {
  const namespaces = new Set(channels.map(({ text }) => namespaceOf(text)));
  return [...namespaces]
    .filter((namespace) => !keepsChanges(namespace))
    .map(
      (namespace) =>
        `bridges.${name}.rooms: namespaces.${namespace} needs changes: true, because publications are read from the change log (or set direction: in)`,
    );
}
