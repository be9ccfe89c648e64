/**
 * Holds a ledger against a reference. Both are kept in a database of its own, which also sorts and joins them: memory is bounded by its
 * caches, and by the heap that the npm script gives Node, whatever their length. Its file, in TMPDIR or the system's folder for temporary
 * files, takes about 600 bytes a line. It has no name, so nothing is left of it, also where the process is killed.
 */
import { hash } from "node:crypto";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { BadLine } from "./bad-line.ts";
import { canonicalText, parseExact, scalarTextOf, valueAtPointer } from "./json-values.ts";
import type { CapturedLine, ReferenceLine, Refused } from "./reference-lines.ts";

const cacheKiB = 16_384;
const shownCharacters = 200;
/** SQLite deletes it as soon as it is open. */
const unnamedFile = "";
const hashBytes = 16;

export interface Gap {
  readonly from: number;
  readonly to: number;
}

const schema = `
  PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -${cacheKiB};
  CREATE TABLE ledger (pos INTEGER PRIMARY KEY, channel TEXT, offset INTEGER, at INTEGER, id TEXT, event TEXT, data BLOB, text TEXT);
  CREATE TABLE reference (pos INTEGER PRIMARY KEY, channel TEXT, request INTEGER, at REAL, id TEXT, event TEXT, data BLOB, text TEXT);
  CREATE INDEX reference_request ON reference (request) WHERE request IS NOT NULL;
  CREATE TABLE pairs (l INTEGER PRIMARY KEY, r INTEGER UNIQUE, changed TEXT);
  CREATE TABLE duplicates (r INTEGER PRIMARY KEY, l INTEGER);
  BEGIN;
`;

export class Comparison {
  readonly gaps: Gap[] = [];
  readonly db: DatabaseSync;
  readonly #addLedger: StatementSync;
  readonly #addReference: StatementSync;
  readonly #refuse: StatementSync;
  readonly #idPointer: string | undefined;
  /** Which members lines without an id have: all the same. */
  #shape: { event: boolean; data: boolean } | undefined;

  /** Close it. @param options.idPointer into the data: what names a change instead of the `webhook-id` */
  constructor(options: { idPointer: string | undefined }) {
    this.#idPointer = options.idPointer;
    this.db = new DatabaseSync(unnamedFile);
    this.db.exec(schema);
    this.#addLedger = this.db.prepare(
      "INSERT INTO ledger (channel, offset, at, id, event, data, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    this.#addReference = this.db.prepare("INSERT INTO reference VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    this.#refuse = this.db.prepare("DELETE FROM reference WHERE request = ?");
  }

  close(): void {
    this.db.close();
  }

  /** @param text a line of the ledger. @throws Error where its data has no id */
  addLedger(text: string): void {
    const line = parseExact(text) as Record<string, unknown>;
    const { gap, channel, offset, at, changeId, event, data } = line;
    if (gap !== undefined) {
      this.gaps.push(gapOf(gap));
      return;
    }
    const id = this.#idPointer === undefined ? String(changeId) : scalarTextOf(valueAtPointer(data, this.#idPointer));
    if (id === undefined) {
      throw new Error(`the data of ${String(channel)} at offset ${String(offset)} has no ${String(this.#idPointer)}`);
    }
    const members = [channel, Number(scalarTextOf(offset)), at, id, event] as [string, number, number, string, string];
    this.#addLedger.run(...members, hashOf(data), excerpt(canonicalText(data), shownCharacters));
  }

  /** @throws BadLine where the members of lines without an id differ */
  addReference(file: string, given: CapturedLine | Refused): void {
    if ("refused" in given) {
      this.#refuse.run(given.refused);
      return;
    }
    if (given.id === undefined) this.#assertShape(file, given);
    const { line, channel = null, request = null, at = null, id = null, event = null, data, text } = given;
    this.#addReference.run(
      ...[line, channel, request, at === null ? null : at, id, event],
      data ? hashOf(data.value) : null,
      excerpt(data ? canonicalText(data.value) : text, shownCharacters),
    );
  }

  /** Finds which line of the reference is which change. Call it once, after the last line. */
  match(): void {
    this.db.exec("COMMIT; CREATE INDEX ledger_id ON ledger (id); CREATE INDEX reference_id ON reference (id);");
    this.#pair("id", "id IS NOT NULL", true);
    if (this.#shape) {
      const members = ["channel", ...(this.#shape.event ? ["event"] : []), ...(this.#shape.data ? ["data"] : [])];
      this.#pair(members.join(", "), "id IS NULL", this.#shape.data);
      this.#pairChanged();
    }
    this.db.exec(`
      UPDATE pairs SET changed = (
        SELECT trim(iif(r.event IS NOT NULL AND r.event IS NOT l.event, 'event ', '') || iif(r.data IS NOT NULL AND r.data IS NOT l.data, 'data', ''))
        FROM ledger l, reference r WHERE l.pos = pairs.l AND r.pos = pairs.r);
      CREATE INDEX ledger_channel ON ledger (channel, pos);
    `);
  }

  /** Of each channel, the last change that the reference has. Call it after {@link match}. */
  lastChanges(): { channel: string; offset: number; at: number }[] {
    const rows = this.db.prepare(
      "SELECT channel, offset, at, max(pos) FROM ledger JOIN pairs ON pairs.l = ledger.pos GROUP BY channel ORDER BY channel",
    );
    return rows
      .all()
      .map(({ channel, offset, at }) => ({ channel: String(channel), offset: Number(offset), at: Number(at) }));
  }

  #assertShape(file: string, { line, event, data }: ReferenceLine): void {
    const shape = { event: event !== undefined, data: data !== undefined };
    this.#shape ??= shape;
    for (const member of ["event", "data"] as const) {
      if (this.#shape[member] === shape[member]) continue;
      const [has, others] = shape[member] ? ["has", "have none"] : ["has no", "have one"];
      throw new BadLine(file, line, `${has} ${member}, and the lines before it ${others}: give all or none of them`);
    }
  }

  /**
   * The n-th line with the same members on one side is the n-th on the other.
   * @param isNaming further lines with the same members are the same change again
   */
  #pair(members: string, condition: string, isNaming: boolean): void {
    const numbered = (table: string, where: string): string =>
      `SELECT pos, ${members}, row_number() OVER (PARTITION BY ${members} ORDER BY pos) AS n FROM ${table} WHERE ${where}`;
    this.db.exec(`
      CREATE TEMP TABLE one AS ${numbered("ledger", "pos NOT IN (SELECT l FROM pairs)")};
      CREATE TEMP TABLE other AS ${numbered("reference", condition)};
      CREATE INDEX temp.one_key ON one (${members}, n);
      INSERT OR IGNORE INTO pairs (l, r) SELECT one.pos, other.pos FROM other JOIN one USING (${members}, n);
      INSERT INTO duplicates SELECT other.pos, one.pos FROM other JOIN one USING (${members})
        WHERE ${isNaming} AND one.n = 1 AND other.pos NOT IN (SELECT r FROM pairs);
      DROP TABLE one; DROP TABLE other;
    `);
  }

  /** What is left between the same two pairs of a channel, on both sides, is the same change with other data. */
  #pairChanged(): void {
    this.db.exec(`
      CREATE TEMP TABLE left_over (side INTEGER, pos INTEGER, channel TEXT, anchor INTEGER, n INTEGER);
      CREATE INDEX reference_channel ON reference (channel, pos);
    `);
    const add = this.db.prepare("INSERT INTO left_over VALUES (?, ?, ?, ?, ?)");
    const sides = [
      "SELECT ledger.pos, channel, l AS pair FROM ledger LEFT JOIN pairs ON l = pos ORDER BY channel, pos",
      "SELECT reference.pos, channel, l AS pair FROM reference LEFT JOIN pairs ON r = pos WHERE id IS NULL AND pos NOT IN (SELECT r FROM duplicates) ORDER BY channel, pos",
    ];
    for (const [side, sql] of sides.entries()) {
      let last = { channel: "", anchor: 0, n: 0 };
      for (const { pos, channel, pair } of this.db.prepare(sql).iterate()) {
        const name = String(channel);
        if (name !== last.channel) last = { channel: name, anchor: 0, n: 0 };
        if (pair !== null) last = { channel: name, anchor: Number(pair), n: 0 };
        else add.run(side, Number(pos), name, last.anchor, ++last.n);
      }
    }
    this.db.exec(`
      CREATE INDEX temp.left_over_key ON left_over (channel, anchor, n, side);
      INSERT OR IGNORE INTO pairs (l, r)
        SELECT one.pos, other.pos FROM left_over one JOIN left_over other USING (channel, anchor, n)
        WHERE one.side = 0 AND other.side = 1;
      DROP TABLE left_over;
    `);
  }
}

/** @throws Error where it is no gap */
function gapOf(value: unknown): Gap {
  const { from, to } = Object(value) as Record<string, unknown>;
  if (typeof from === "number" && typeof to === "number") return { from, to };
  throw new Error("the ledger has a gap without the times from and to");
}

function hashOf(value: unknown): Buffer {
  return hash("sha256", canonicalText(value), "buffer").subarray(0, hashBytes);
}
