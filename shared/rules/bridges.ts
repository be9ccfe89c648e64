/** Bridges to Socket.IO fleets in the rules document: their schema and further checks. Pure. */
import { type Static, Type } from "typebox";
import { namespaceOf } from "../protocol/grammar.ts";
import { roomFindings, sharedChannels } from "./bridge-rooms.ts";

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
  const findings = bridges.flatMap(([name, bridge]) => findingsOf(name, bridge, keepsChanges));
  if (bridges.length > maxBridges) findings.push(`bridges: has ${bridges.length} entries, more than ${maxBridges}`);
  if (findings.length > 0) return findings;
  return bridges.flatMap(([name, bridge], index) =>
    bridges.slice(index + 1).flatMap(([otherName, other]) =>
      // What one bridge has published would be emitted by the other, and come back where both join the same fleet.
      sharedChannels(bridge.rooms, other.rooms).map(
        ([one, another]) =>
          `bridges.${otherName}.rooms: a channel can match "${another}" and "${one}" of bridges.${name}: a channel belongs to one bridge`,
      ),
    ),
  );
}

function findingsOf(name: string, bridge: BridgeRule, keepsChanges: (namespace: string) => boolean): string[] {
  const path = `bridges.${name}`;
  const findings = roomFindings(`${path}.rooms`, bridge.rooms);
  if (typeof bridge.redis !== "string" || !variablePattern.test(bridge.redis)) {
    findings.push(`${path}.redis: must name a variable of the private API's environment, e.g. env:LEGACY_REDIS_URL`);
  }
  if (bridge.maxLen !== undefined && bridge.adapter !== "streams") {
    findings.push(`${path}.maxLen: only the streams adapter has a stream`);
  }
  if (findings.length > 0 || !carriesOut(bridge)) return findings;
  const namespaces = new Set(Object.values(bridge.rooms).map(namespaceOf));
  return [...namespaces]
    .filter((namespace) => !keepsChanges(namespace))
    .map(
      (namespace) =>
        `${path}.rooms: namespaces.${namespace} needs changes: true, because publications are read from the change log (or set direction: in)`,
    );
}
