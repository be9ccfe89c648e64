/**
 * Reads a table of PostgreSQL by snapshots: a row is new when its transaction is visible now and was not in the last snapshot. So a
 * transaction that commits late is found late, one that stays open delays nothing, and nothing is kept in the database.
 *
 * The column `xid` holds the number of the row's transaction. The system column xmin does not: for a row that is written inside a
 * savepoint it holds the number of the subtransaction, which snapshots do not list.
 */
import type { Socket } from "node:net";
import type { Client } from "pg";
import * as contract from "./contract.ts";
import { PlannedStatement } from "./planned-statement.ts";
import { connectPostgres, type PostgresConnection } from "./postgres-connection.ts";
import { checkPostgresTable, type PostgresOptions, type PostgresTable } from "./postgres-table.ts";
import { cursorThrough, firstSnapshot, isBefore, parseSnapshot } from "./snapshot.ts";

/** Rows of the table that one statement looks at, to find the next rows of a page. */
const windowRows = 10_000;

/** Below every id. */
const beforeAll = "-9223372036854775808";

/** Ids of rows. */
interface Bounds {
  first: string | null;
  last: string | null;
}

type PostgresRow = Record<string, string | null>;

export class PostgresDatabase implements contract.Database {
  readonly identity: string;
  readonly timeline: string;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #table: PostgresTable;
  readonly #columns: readonly string[];
  readonly #newRows: PlannedStatement<PostgresRow>;
  #bounds: (Bounds & { page: contract.Page }) | undefined;

  constructor({ client, socket }: PostgresConnection, table: PostgresTable, columns: readonly string[]) {
    this.identity = table.identity;
    this.timeline = table.timeline;
    this.#client = client;
    this.#socket = socket;
    this.#table = table;
    this.#columns = columns;
    this.#newRows = new PlannedStatement(client, this.#statement());
  }

  async begin(start: "end" | "beginning"): Promise<contract.Cursor> {
    if (start === "beginning") return firstSnapshot;
    const { rows } = await this.#client.query<{ snapshot: string; newest: string | null }>(`SELECT ${this.#present()}`);
    const [present] = rows;
    if (!present) throw new Error("the database did not describe itself");
    return this.#cursorAt(present.snapshot, { cursor: firstSnapshot, newest: present.newest });
  }

  /** One statement: its rows are those that its own snapshot sees. */
  async readNew(cursor: contract.Cursor): Promise<contract.NewRows> {
    const { xmax, inProgress } = parseSnapshot(cursor);
    const rows = await this.#newRows.run([xmax, inProgress, contract.pageRows + 1]);
    const present = rows[0]?.["snapshot"] ?? cursor;
    const next = this.#cursorAt(present, { cursor, newest: rows[0]?.["newest"] ?? null });
    const found = rows.flatMap((row) => this.#toRow(row));
    if (found.length === 0) return { next };
    if (found.length <= contract.pageRows) return { next, page: pageOf(cursor, next), rows: found };
    return { next, page: pageOf(cursor, next) };
  }

  /**
   * The primary key is read from row to row: a page may be far larger than one read. Where many rows of others are in between, the index
   * on the transaction tells where the next row of the page is: no statement looks at more than a window of the table.
   */
  async readPage(page: contract.Page, after: string): Promise<{ rows: readonly contract.Row[]; isLast: boolean }> {
    const { from, to } = parsePage(page);
    if (this.#bounds?.page !== page)
      this.#bounds = { page, ...(await this.#readBounds({ from, to, after: beforeAll })) };
    const { first, last } = this.#bounds;
    if (first === null || last === null) return { rows: [], isLast: true };
    refuseNegative(first);
    let start = after === "" ? before(first) : after;
    for (;;) {
      const { rows, end } = await this.#readWindow({ from, to, last, after: start });
      if (rows.length > 0 || end === last) return { rows, isLast: end === last && rows.length < contract.pageRows };
      // Of a page that begins at the first row of the table, the index on the transaction tells nothing.
      const next = from === firstSnapshot ? undefined : await this.#readBounds({ from, to, after: end });
      if (next?.first === null) return { rows, isLast: true };
      start = next ? before(next.first) : end;
    }
  }

  /** Rows of the page among the next rows of the table, up to the id `end`. */
  async #readWindow({
    from,
    to,
    after,
    last,
  }: {
    from: string;
    to: string;
    after: string;
    last: string;
  }): Promise<{ rows: contract.Row[]; end: string }> {
    const { name, id, xid } = this.#table;
    const ends = await this.#client.query<{ end: string }>(
      `SELECT ${id}::text AS "end" FROM ${name} source WHERE ${id} > $1 AND ${id} <= $2 ORDER BY source.${id} OFFSET ${windowRows - 1} LIMIT 1`,
      [after, last],
    );
    const end = ends.rows[0]?.end ?? last;
    const { rows } = await this.#client.query<PostgresRow>(
      // With the name of the table: a text of the same name in the result would come first.
      `SELECT ${this.#fields()} FROM ${name} source
       WHERE ${id} > $1 AND ${id} <= $2 AND pg_visible_in_snapshot(${xid}, $3) AND NOT pg_visible_in_snapshot(${xid}, $4)
       ORDER BY source.${id} LIMIT $5`,
      [after, end, to, from, contract.pageRows],
    );
    return { rows: rows.flatMap((row) => this.#toRow(row)), end };
  }

  async readRows(ids: readonly string[]): Promise<readonly contract.Row[]> {
    const { name, id } = this.#table;
    const found: contract.Row[] = [];
    for (let at = 0; at < ids.length; at += contract.pageRows) {
      const { rows } = await this.#client.query<PostgresRow>(
        `SELECT ${this.#fields()} FROM ${name} WHERE ${id} = ANY ($1::bigint[])`,
        [ids.slice(at, at + contract.pageRows)],
      );
      found.push(...rows.flatMap((row) => this.#toRow(row)));
    }
    return found;
  }

  onNotice(listener: () => void): void {
    for (const event of ["notification", "error", "end"] as const) this.#client.on(event, listener);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** @throws RowsLost; SourceRefused where the numbers of transactions are not those of this server */
  #cursorAt(present: string, known: { cursor: string; newest: string | null }): contract.Cursor {
    const { cursor, newest } = known;
    if (isBefore(present, cursor)) {
      throw new contract.RowsLost(
        "the database has lost transactions that were read: to begin again, give the source another name",
      );
    }
    if (newest !== null && isBefore(present, `0:${newest}:`)) {
      throw new contract.SourceRefused(
        "the table has numbers of transactions that this server has not given yet: after a restore set them to their default",
      );
    }
    return cursorThrough(present, known);
  }

  /** Rows that are visible now and were not in the snapshot of the values, and the present snapshot in each row. */
  #statement(): string {
    const { name, id, xid } = this.#table;
    // Of one type, whatever the column's: a plan of the session does not outlive another type of a result.
    const fields = `${id}::bigint AS "order", ${this.#fields()}`;
    return `WITH found AS MATERIALIZED (
         (SELECT ${fields} FROM ${name} WHERE ${xid} >= $1::xid8)
         UNION ALL
         (SELECT ${fields} FROM ${name} WHERE ${xid} = ANY ($2::xid8[]))
         LIMIT $3
       )
       SELECT present.*, found.* FROM (SELECT ${this.#present()}) present
       LEFT JOIN found ON true ORDER BY found."order"`;
  }

  /**
   * The ids of the first and the last row of a page, after one id, by the index on the column of the transaction. Of a page that begins at
   * the first row of the table: of all rows, also of later ones.
   */
  async #readBounds({ from, to, after }: { from: string; to: string; after: string }): Promise<Bounds> {
    const { name, id, xid } = this.#table;
    const { xmax, inProgress } = parseSnapshot(from);
    const isAll = from === firstSnapshot;
    const ids = `SELECT ${id} AS id FROM ${name} WHERE ${id} > $1`;
    const isVisible = `pg_visible_in_snapshot(${xid}, $5)`;
    const { rows } = await this.#client.query<Bounds>(
      `SELECT min(id)::text AS first, max(id)::text AS last FROM (${
        isAll
          ? ids
          : `${ids} AND ${xid} >= $2::xid8 AND ${xid} < $3::xid8 AND ${isVisible} UNION ALL ${ids} AND ${xid} = ANY ($4::xid8[]) AND ${isVisible}`
      }) page`,
      isAll ? [after] : [after, xmax, parseSnapshot(to).xmax, inProgress, to],
    );
    return rows[0] ?? { first: null, last: null };
  }

  /** The snapshot of the statement, and the transaction of the newest row that it sees. */
  #present(): string {
    const { name, xid } = this.#table;
    // Named as no column can be: ORDER BY would take a text of that name.
    const newest = `SELECT ${xid}::text AS "as text" FROM ${name} WHERE ${xid} IS NOT NULL ORDER BY ${xid} DESC LIMIT 1`;
    return `pg_current_snapshot()::text AS snapshot, (${newest}) AS newest`;
  }

  /** The id and the columns as text: numbers keep their digits. */
  #fields(): string {
    const columns = this.#columns.map((column, at) => `left("${column}"::text, ${contract.maxTextLength}) AS c${at}`);
    return [`${this.#table.id}::text AS row_id`, ...columns].join(", ");
  }

  #toRow(row: PostgresRow): contract.Row[] {
    const { row_id: id } = row;
    if (id === null || id === undefined) return [];
    refuseNegative(id);
    return [{ id, values: Object.fromEntries(this.#columns.map((column, at) => [column, row[`c${at}`] ?? null])) }];
  }
}

/** @throws SourceRefused; any other error may pass */
export async function openPostgres(options: PostgresOptions): Promise<contract.Database> {
  contract.checkUrl(options.url, ["postgres:", "postgresql:"]);
  const connection = await connectPostgres(options);
  try {
    const { client } = connection;
    const table = await checkPostgresTable(client, options);
    if (options.notify !== undefined) await client.query(`LISTEN "${options.notify}"`);
    return new PostgresDatabase(connection, table, options.columns);
  } catch (error) {
    connection.socket.destroy();
    throw error;
  }
}

/** @throws SourceRefused: marks of rows are digits */
function refuseNegative(id: string): void {
  if (id.startsWith("-"))
    throw new contract.SourceRefused(`the id ${id} is negative: delete the row, or give it another id`);
}

/** @param id digits */
function before(id: string): string {
  return String(BigInt(id) - 1n);
}

function pageOf(from: string, to: string): contract.Page {
  return `${from} ${to}`;
}

function parsePage(page: contract.Page): { from: string; to: string } {
  const [from = "", to = ""] = page.split(" ");
  return { from, to };
}
