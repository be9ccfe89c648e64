/** What a comparison has found: counts, differences, and by how much the other system was later. */
import type { Comparison, Gap } from "./comparison.ts";

/** `missing`: only the reference has it; `extra`: only the ledger. */
export const differenceKinds = ["missing", "extra", "reordered", "duplicated", "changed"] as const;
export type DifferenceKind = (typeof differenceKinds)[number];

/** Changes of these times count, in Unix ms: from inclusive, to exclusive. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

export interface Difference {
  readonly kind: DifferenceKind;
  readonly channel?: string;
  readonly id?: string;
  readonly event?: string;
  readonly offset?: number;
  /** Unix ms: when it was published; where the ledger lacks it, when the other system sent it. */
  readonly at?: number;
  /** Of the reference. */
  readonly line?: number;
  /** Of a changed one: which members differ. */
  readonly changed?: readonly string[];
  /** The beginning of its data. */
  readonly ledger?: string;
  readonly reference?: string;
  /** The changes of the channel before and after it, as the ledger has them. */
  readonly before?: string;
  readonly after?: string;
}

export interface Counts extends Record<DifferenceKind, number> {
  readonly ledger: number;
  readonly reference: number;
  readonly same: number;
  /** Only the reference has them, at a time that the ledger no longer has: they may be right. */
  readonly unknown: number;
}

type Row = Record<string, unknown>;

/** Call it after `match`. */
export class Findings {
  readonly counts: Counts;
  /** What the ledger no longer has, ascending: those of the ledger that touch are one. */
  readonly gaps: readonly Gap[];
  readonly #comparison: Comparison;

  constructor(comparison: Comparison, window: Window) {
    this.#comparison = comparison;
    this.gaps = joined(comparison.gaps);
    this.#storeGaps();
    this.#findReordered();
    this.counts = this.#find(window);
  }

  get isEqual(): boolean {
    return differenceKinds.every((kind) => this.counts[kind] === 0);
  }

  /** In order of their time. */
  *differences(): Generator<Difference> {
    const { db } = this.#comparison;
    const rows = db.prepare(`
      SELECT d.kind, d.at, l.pos, l.channel, l.offset, l.id, l.event, l.text AS ledger, pairs.changed,
        r.pos AS line, r.channel AS rchannel, r.id AS rid, r.event AS revent, r.text AS reference
      FROM differences d LEFT JOIN ledger l ON l.pos = d.l LEFT JOIN reference r ON r.pos = d.r LEFT JOIN pairs ON pairs.l = d.l
      ORDER BY d.at, d.l, d.r`);
    const neighbour = (compare: string, order: string): ((row: Row) => Row | undefined) => {
      const sql = `SELECT offset, event, text FROM ledger WHERE channel = ? AND pos ${compare} ? ORDER BY pos ${order} LIMIT 1`;
      const found = db.prepare(sql);
      return ({ channel, pos }) => (pos === null ? undefined : found.get(String(channel), Number(pos)));
    };
    const [before, after] = [neighbour("<", "DESC"), neighbour(">", "ASC")];
    for (const row of rows.iterate()) yield differenceOf(row, before(row), after(row));
  }

  /** In ms, by how much the other system sent changes later than they were published. Ascending. */
  *latencies(): Generator<number> {
    const rows = this.#comparison.db.prepare("SELECT ms FROM latencies ORDER BY ms");
    for (const { ms } of rows.iterate()) yield Number(ms);
  }

  /** Undefined where the reference has no times. */
  latencySummary(): { count: number; min: number; p50: number; p90: number; p99: number; max: number } | undefined {
    const { db } = this.#comparison;
    const count = Number(db.prepare("SELECT count(*) AS n FROM latencies").get()?.["n"]);
    if (count === 0) return undefined;
    const nth = db.prepare("SELECT ms FROM latencies ORDER BY ms LIMIT 1 OFFSET ?");
    const at = (share: number): number => Number(nth.get(Math.min(count - 1, Math.floor(count * share)))?.["ms"]);
    return { count, min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
  }

  #storeGaps(): void {
    const { db } = this.#comparison;
    db.exec("CREATE TABLE gaps (starts REAL PRIMARY KEY, ends REAL)");
    const add = db.prepare("INSERT INTO gaps VALUES (?, ?)");
    for (const { from, to } of this.gaps) add.run(from, to);
  }

  /** In the order of the reference, one that comes after a later one of its channel. */
  #findReordered(): void {
    const { db } = this.#comparison;
    db.exec("CREATE TABLE reordered (l INTEGER PRIMARY KEY)");
    const add = db.prepare("INSERT INTO reordered VALUES (?)");
    const inOrder = "SELECT l, channel FROM pairs JOIN ledger ON pos = l ORDER BY channel, r";
    let last = { channel: "", l: 0 };
    db.exec("BEGIN");
    for (const row of db.prepare(inOrder).iterate()) {
      const [l, channel] = [Number(row["l"]), String(row["channel"])];
      if (channel === last.channel && l < last.l) add.run(l);
      else last = { channel, l };
    }
    db.exec("COMMIT");
  }

  #find({ from, to }: Window): Counts {
    const { db } = this.#comparison;
    const bounds = { ":from": Math.max(from, -maxTime), ":to": Math.min(to, maxTime) };
    const within = (at: string): string => `(${at} IS NULL OR (${at} >= :from AND ${at} < :to))`;
    // The last one that begins before it is the only one that may have it.
    const inGap = "coalesce((SELECT ends FROM gaps WHERE starts <= r.at ORDER BY starts DESC LIMIT 1) >= r.at, 0)";
    const alone = `FROM reference r WHERE pos NOT IN (SELECT r FROM pairs) AND pos NOT IN (SELECT r FROM duplicates) AND ${within("r.at")}`;
    db.exec("CREATE TABLE differences (kind TEXT, l INTEGER, r INTEGER, at REAL); CREATE TABLE latencies (ms REAL)");
    const inserts = [
      `SELECT 'extra', l.pos, NULL, l.at FROM ledger l WHERE pos NOT IN (SELECT l FROM pairs) AND ${within("l.at")}`,
      `SELECT 'missing', NULL, r.pos, r.at ${alone} AND NOT ${inGap}`,
      `SELECT 'duplicated', d.l, d.r, l.at FROM duplicates d JOIN ledger l ON l.pos = d.l WHERE ${within("l.at")}`,
      `SELECT 'changed', p.l, p.r, l.at FROM pairs p JOIN ledger l ON l.pos = p.l WHERE changed <> '' AND ${within("l.at")}`,
      `SELECT 'reordered', p.l, p.r, l.at FROM reordered JOIN pairs p USING (l) JOIN ledger l ON l.pos = p.l WHERE ${within("l.at")}`,
    ];
    for (const sql of inserts) db.prepare(`INSERT INTO differences ${sql}`).run(bounds);
    const pairs = `FROM pairs p JOIN ledger l ON l.pos = p.l JOIN reference r ON r.pos = p.r WHERE ${within("l.at")}`;
    db.prepare(`INSERT INTO latencies SELECT r.at - l.at ${pairs} AND r.at IS NOT NULL`).run(bounds);
    const count = (sql: string): number => Number(db.prepare(`SELECT count(*) AS n ${sql}`).get(bounds)?.["n"]);
    const byKind = db.prepare("SELECT count(*) AS n FROM differences WHERE kind = ?");
    const kinds = differenceKinds.map((kind) => [kind, Number(byKind.get(kind)?.["n"])] as const);
    return {
      ledger: count(`FROM ledger l WHERE ${within("l.at")}`),
      reference: count(`FROM reference r WHERE ${within("r.at")}`),
      same: count(`${pairs} AND changed = '' AND p.l NOT IN (SELECT l FROM reordered)`),
      ...(Object.fromEntries(kinds) as Record<DifferenceKind, number>),
      unknown: count(`${alone} AND ${inGap}`),
    };
  }
}

const maxTime = 2 ** 53;

function joined(gaps: readonly Gap[]): Gap[] {
  const found: Gap[] = [];
  for (const gap of gaps.toSorted((one, other) => one.from - other.from)) {
    const last = found.at(-1);
    if (last && gap.from <= last.to) found.splice(-1, 1, { from: last.from, to: Math.max(last.to, gap.to) });
    else found.push(gap);
  }
  return found;
}

function differenceOf(row: Row, before: Row | undefined, after: Row | undefined): Difference {
  const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
  const numberOf = (value: unknown): number | undefined =>
    value === null || value === undefined ? undefined : Number(value);
  const shown = (neighbour: Row | undefined): string | undefined =>
    neighbour && `${String(neighbour["offset"])} ${String(neighbour["event"])} ${String(neighbour["text"])}`;
  const kind = String(row["kind"]) as DifferenceKind;
  const members = {
    kind,
    channel: textOf(row["channel"] ?? row["rchannel"]),
    id: textOf(row["id"] ?? row["rid"]),
    event: textOf(row["event"] ?? row["revent"]),
    offset: numberOf(row["offset"]),
    at: numberOf(row["at"]),
    line: numberOf(row["line"]),
    changed: kind === "changed" ? String(row["changed"]).trim().split(" ") : undefined,
    ledger: textOf(row["ledger"]),
    reference: textOf(row["reference"]),
    before: shown(before),
    after: shown(after),
  };
  return Object.fromEntries(
    Object.entries(members).filter(([, value]) => value !== undefined),
  ) as unknown as Difference;
}
