/** How far a bridge is, as it is stored. */
import { createHash } from "node:crypto";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";
import type { ServerAddress } from "../../shared/redis/address.ts";
import { type BridgeRule, bridgeDefaults, carriesIn, carriesOut } from "../../shared/rules/bridges.ts";

const closed = { additionalProperties: false } as const;
const count = Type.Integer({ minimum: 0 });

/** Since the bridge first joined. Without the last moments of a process that was killed. */
export const BridgeCounts = Type.Object(
  {
    /** Emits that became publications, or ephemeral ones. */
    published: count,
    /** Emits that cannot become publications (SPEC, BRI-6). */
    refused: count,
    /** Emits that were lost at the bridge: its queue was full, or its lease ended. None that a stream still has. */
    dropped: count,
    /** Publications that were emitted. */
    emitted: count,
    /** Times at which publications had left the change log before they were emitted. */
    gaps: count,
  },
  closed,
);
export type BridgeCounts = Static<typeof BridgeCounts>;

const BridgeProgress = Type.Object(
  {
    /** Marks what this bridge publishes and emits, in every process. */
    identity: Type.String({ pattern: "^[0-9a-f]{16}$" }),
    /** Of the fleet that the offset belongs to, see {@link fleetIdOf}. Earlier versions wrote none. */
    fleet: Type.Optional(Type.String({ pattern: "^[0-9a-f]{16}$" })),
    /** In the change log. Absent until the bridge carries out. */
    cursor: Type.Optional(Type.String()),
    /** Of the entry of the old fleet's stream up to which all is published. */
    offset: Type.Optional(Type.String({ pattern: "^[0-9]+-[0-9]+$" })),
    counts: BridgeCounts,
  },
  closed,
);
export type BridgeProgress = Static<typeof BridgeProgress>;

export const noCounts: BridgeCounts = { published: 0, refused: 0, dropped: 0, emitted: 0, gaps: 0 };

const validator = Compile(BridgeProgress);

/** Undefined where the text is malformed: a newer version wrote it. */
export function parseBridgeProgress(text: string): BridgeProgress | undefined {
  const value = parseJson(text);
  return validator.Check(value) ? value : undefined;
}

/** Names the place of a fleet's messages. Contains neither user nor password. */
export function fleetIdOf(rule: BridgeRule, { host, port, database }: ServerAddress): string {
  const { adapter, key, namespace } = { ...bridgeDefaults, ...rule };
  const place = JSON.stringify([host, port, database, adapter, key, namespace]);
  return createHash("sha256").update(place).digest("hex").slice(0, 16);
}

/** The stored progress, without the place of a direction that was off, and without the place of the way in where the fleet is another one. */
export function progressUnder(
  { rule, fleetId }: { rule: BridgeRule; fleetId: string },
  { identity, counts, fleet, cursor, offset }: BridgeProgress,
): BridgeProgress {
  const isSameFleet = fleet === undefined || fleet === fleetId;
  return {
    ...{ identity, counts, fleet: fleetId },
    ...(carriesOut(rule) && cursor !== undefined && { cursor }),
    ...(carriesIn(rule) && isSameFleet && offset !== undefined && { offset }),
  };
}
