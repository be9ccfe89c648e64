/** How far a shard is read, as it is stored. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";
import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import { type Database, SourceRefused } from "./contract.ts";

const closed = { additionalProperties: false } as const;

/**
 * A page is stored before its first row is published, and with the mapping of that time. So another reader publishes the same
 * publications under the same marks, whenever it continues.
 */
const BegunPage = Type.Object(
  {
    /** Grows with each page of the shard, see {@link pageNumber}. */
    number: Type.String({ pattern: "^[0-9]{26}$" }),
    page: Type.String(),
    /** The cursor after the page. */
    next: Type.String(),
    /** Every row up to this id is published. */
    after: Type.String({ pattern: "^[0-9]{0,20}$" }),
    mapping: Type.Object({ channel: Type.String(), event: Type.String(), data: Type.String() }, closed),
  },
  closed,
);
export type BegunPage = Static<typeof BegunPage>;

const Progress = Type.Object(
  {
    /** Of the {@link Database}. */
    identity: Type.String(),
    timeline: Type.String(),
    cursor: Type.String(),
    begun: Type.Optional(BegunPage),
    /** Rows since the first read. */
    published: Type.Integer({ minimum: 0 }),
    skipped: Type.Integer({ minimum: 0 }),
    /** Rows that were read are gone from the database with this timeline. */
    lost: Type.Optional(Type.Object({ timeline: Type.String(), message: Type.String() }, closed)),
  },
  closed,
);
export type Progress = Static<typeof Progress>;

const validator = Compile(Progress);

/** @throws where the text is malformed: a newer version wrote it. */
export function parseProgress(text: string): Progress {
  const value = parseJson(text);
  if (!validator.Check(value)) throw new Error("the stored progress is malformed: was it written by a newer version?");
  return value;
}

/** @throws SourceRefused where ids and cursors of that progress are of no use in this database */
export function refuseAnotherDatabase(
  known: Pick<Progress, "identity" | "timeline" | "lost">,
  { identity, timeline }: Pick<Database, "identity" | "timeline">,
  { failover }: Pick<SqlSourceRule, "failover">,
): void {
  if (isOfEarlierBuild(known, { identity, timeline })) return;
  if (known.identity !== identity) {
    throw new SourceRefused(
      "this is another database or table than was read before: to begin again, give the source another name",
    );
  }
  if (known.lost?.timeline === timeline) throw new SourceRefused(known.lost.message);
  if (known.timeline !== timeline && failover !== "continue") {
    throw new SourceRefused(
      "the database was restored or has failed over, and may have lost transactions that were read: set failover: continue where none is lost; to begin again, give the source another name",
    );
  }
}

/** Builds up to 28 November 2026 stored the timeline of MySQL in the identity. */
function isOfEarlierBuild(
  known: Pick<Progress, "identity" | "timeline">,
  { identity, timeline }: Pick<Database, "identity" | "timeline">,
): boolean {
  const [driver, ...place] = identity.split(" ");
  return known.timeline === "" && known.identity === [driver, timeline, ...place].join(" ");
}

const fenceDigits = 16;
const countDigits = 10;
const idDigits = 20;

/** Grows with the fence of the reader's lease, also where Redis lost the pages before; then with each page under the lease. */
export function pageNumber(fence: number, count: number): string {
  return String(fence).padStart(fenceDigits, "0") + String(count).padStart(countDigits, "0");
}

/** Of a row: grows with the page, then with the id. */
export function markOf(page: string, id: string): string {
  return page + id.padStart(idDigits, "0");
}
