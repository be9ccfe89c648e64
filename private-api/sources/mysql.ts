/**
 * Reads a table of MySQL or MariaDB by its ids, and keeps the gaps among them until it is sure that nothing appears in them any more.
 * See gaps.ts for what closes a gap.
 */
import type { Connection, RowDataPacket } from "mysql2/promise";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import * as contract from "./contract.ts";
import {
  maxGaps,
  type Position,
  parsePosition,
  type Since,
  type UnderWay,
  withRows,
  withTransactions,
} from "./gaps.ts";
import { formatRanges, parseRanges } from "./id-ranges.ts";
import { type Ask, askerOf, checkServer, connectMysql, type MysqlServer, refuseUnlessWhole } from "./mysql-server.ts";

/** Ids of one page. Rows that appear while a page is published come in the next one. */
const pageIds = 2_000;
/** At the end of a table the gaps among so many of its latest ids are kept: InnoDB reads them with their rows, in far less than the time of a statement. */
const latestIds = 100_000;
/** How often the server and its transactions are looked at. The start of one is given in whole seconds: two lists must not be of the same one. */
const lookEveryMs = 1_100;

interface IdRow extends RowDataPacket {
  row_id: string;
}

export class MysqlDatabase implements contract.Database {
  readonly identity: string;
  readonly timeline: string;
  readonly #connection: Connection;
  readonly #options: contract.DatabaseOptions;
  readonly #ask: Ask;
  readonly #table: string;
  readonly #id: string;
  readonly #since: Since = new WeakMap();
  /** The position of the last read, by its text. */
  #known: { text: contract.Cursor; position: Position } | undefined;
  #lookedAt = -Infinity;
  /** Ends the query that is under way: the library never does once the connection is cut. */
  #cut: ((error: Error) => void) | undefined;

  constructor(connection: Connection, { identity, timeline }: MysqlServer, options: contract.DatabaseOptions) {
    this.identity = identity;
    this.timeline = timeline;
    this.#connection = connection;
    this.#options = options;
    this.#ask = askerOf(connection, options.timeouts);
    this.#table = options.table.split(".").map(quoted).join(".");
    this.#id = quoted(options.id);
  }

  /** Only ids from 1 on are read. At the end of a table the gaps among its latest ids are kept: their transactions may still be open. */
  async begin(start: "end" | "beginning"): Promise<contract.Cursor> {
    if (start === "beginning") return JSON.stringify({ high: "0", gaps: [], lists: [] } satisfies Position);
    // The newest id, and each other one that does not follow the one before it. Below the lowest of a whole table there is a gap, too.
    const ids = await this.#query<IdRow & { follows: string }>(
      `SELECT CAST(id AS CHAR) AS row_id, CAST(before_it + 1 AS CHAR) AS follows
       FROM (
         SELECT id, COALESCE(LAG(id) OVER ids, IF(COUNT(*) OVER () < ${latestIds}, 0, id)) AS before_it, LEAD(id) OVER ids IS NULL AS is_newest
         FROM (
           SELECT source.${this.#id} AS id FROM ${this.#table} source WHERE source.${this.#id} > 0
           ORDER BY source.${this.#id} DESC LIMIT ${latestIds}
         ) latest WINDOW ids AS (ORDER BY id)
       ) numbered WHERE id > before_it + 1 OR is_newest ORDER BY numbered.id DESC LIMIT ${maxGaps + 1}`,
    );
    const gaps = ids
      .filter(({ row_id: id, follows }) => BigInt(id) > BigInt(follows))
      .map(({ row_id: id, follows }) => ({ from: follows, to: String(BigInt(id) - 1n) }));
    const high = ids[0]?.row_id ?? "0";
    return JSON.stringify({ high, gaps: gaps.slice(0, maxGaps).toReversed(), lists: [] } satisfies Position);
  }

  async readNew(cursor: contract.Cursor): Promise<contract.NewRows> {
    const known = this.#known?.text === cursor ? this.#known.position : parsePosition(cursor);
    const { position, closing } = await this.#withTransactions(known);
    const isHeld = position.gaps.length >= maxGaps;
    const ids = await this.#newIds(position, isHeld);
    const isAll = ids.length < pageIds;
    const { gaps, ...others } = withRows(position, ids);
    const after = { ...others, gaps: isAll ? gaps.filter((gap) => !closing.has(gap)) : gaps };
    const next = JSON.stringify(after);
    this.#known = { text: next, position: after };
    const isPart = isHeld || !isAll;
    return { next, ...(ids.length > 0 && { page: formatRanges(ids) }), ...(isPart && { isPart }) };
  }

  async readPage(page: contract.Page, after: string): Promise<{ rows: readonly contract.Row[]; isLast: boolean }> {
    const ranges = parseRanges(page).filter(({ last }) => after === "" || BigInt(last) > BigInt(after));
    if (ranges.length === 0) return { rows: [], isLast: true };
    const rows = await this.#selectRows(
      `(${this.#within(ranges)}) AND ${this.#id} > ${after === "" ? 0 : number(after)}
       ORDER BY source.${this.#id} LIMIT ${contract.pageRows}`,
    );
    return { rows, isLast: rows.length < contract.pageRows };
  }

  async readRows(ids: readonly string[]): Promise<readonly contract.Row[]> {
    const highest = ids.reduce((one, other) => (BigInt(other) > BigInt(one) ? other : one), "0");
    await this.#refuseUnlessWhole(highest);
    const found: contract.Row[] = [];
    for (let at = 0; at < ids.length; at += contract.pageRows) {
      const part = ids.slice(at, at + contract.pageRows).map(number);
      found.push(...(await this.#selectRows(`${this.#id} IN (${part.join(", ")})`)));
    }
    return found;
  }

  async #selectRows(condition: string): Promise<contract.Row[]> {
    const columns = this.#options.columns.map(
      (column, at) => `LEFT(CAST(${quoted(column)} AS CHAR), ${contract.maxTextLength}) AS c${at}`,
    );
    const rows = await this.#query<RowDataPacket & Record<string, string | null>>(
      `SELECT ${[`CAST(${this.#id} AS CHAR) AS row_id`, ...columns].join(", ")} FROM ${this.#table} source WHERE ${condition}`,
    );
    return rows.map((row) => ({
      id: row["row_id"] ?? "",
      values: Object.fromEntries(this.#options.columns.map((column, at) => [column, row[`c${at}`] ?? null])),
    }));
  }

  /** Only where the connection is lost: MySQL has no way to say that rows were written. */
  onNotice(listener: () => void): void {
    for (const event of ["error", "end"]) this.#connection.on(event, listener);
  }

  close(): void {
    this.#connection.destroy();
    this.#cut?.(new Error("the connection was closed"));
  }

  /**
   * One statement sees one state of the table. ORDER BY names the table: a text of the same name in the result would come first.
   * @param isHeld only rows of gaps, and none after the newest one
   */
  async #newIds({ high, gaps }: Position, isHeld: boolean): Promise<string[]> {
    const conditions = gaps.length === 0 ? [] : [this.#within(gaps.map(({ from, to }) => ({ first: from, last: to })))];
    if (!isHeld) conditions.push(`${this.#id} > ${number(high)}`);
    const rows = await this.#query<IdRow>(
      `SELECT CAST(${this.#id} AS CHAR) AS row_id FROM ${this.#table} source WHERE ${conditions.join(" OR ")}
       ORDER BY source.${this.#id} LIMIT ${pageIds}`,
    );
    return rows.map(({ row_id: id }) => id);
  }

  /** @throws RowsLost where the table was emptied; SourceRefused where the server is no primary any more */
  async #withTransactions(position: Position): Promise<ReturnType<typeof withTransactions>> {
    const now = performance.now();
    const unchanged = { position, closing: new Set<never>() };
    if (now - this.#lookedAt < lookEveryMs) return unchanged;
    this.#lookedAt = now;
    await this.#refuseUnlessWhole(position.high);
    if (position.gaps.length === 0) return unchanged;
    const underWay = await this.#underWay();
    return underWay ? withTransactions(position, underWay, { since: this.#since, now }) : unchanged;
  }

  /**
   * Statements first: what has left that list is in the list of transactions by then, or has ended. The server keeps the latter for
   * 0.1 s, and longer while others read it all the time. It is used only where it has the transaction that is begun here, and not one that
   * was begun here before the clock was set back, as in autumn. A
   * transaction that has modified no row owns no id, unless its statement is running, which the first list has. One that waits for a
   * lock is listed all the same: where the clock was set, the start of its statement differs.
   * @returns undefined where it is older
   */
  async #underWay(): Promise<UnderWay | undefined> {
    const statements = await this.#query<RowDataPacket & { connection: string; start: string }>(
      `SELECT CAST(id AS CHAR) AS connection, CAST(UNIX_TIMESTAMP() - time AS CHAR) AS start
       FROM information_schema.processlist
       WHERE id <> CONNECTION_ID() AND command NOT IN ('Sleep', 'Daemon') AND command NOT LIKE 'Binlog Dump%' AND command NOT LIKE 'Slave%'`,
    );
    await this.#query("SET @tidegate_now = NOW()");
    await this.#query("START TRANSACTION WITH CONSISTENT SNAPSHOT");
    // Where this fails the connection is given up, and the transaction with it.
    const listed = await this.#query<RowDataPacket & { transaction: string; own: number; fresh: number }>(
      `SELECT CONCAT(trx_mysql_thread_id, '@', trx_started) AS transaction, trx_mysql_thread_id = CONNECTION_ID() AS own,
         trx_started BETWEEN @tidegate_now AND NOW() AS fresh FROM information_schema.innodb_trx
       WHERE trx_rows_modified > 0 OR trx_state <> 'RUNNING' OR trx_mysql_thread_id = CONNECTION_ID()`,
    );
    // Whatever `completion_type` says: a transaction that follows would see what was visible at its start for ever.
    await this.#query("COMMIT AND NO CHAIN NO RELEASE");
    if (!listed.some(({ own, fresh }) => own === 1 && fresh === 1)) return undefined;
    return {
      transactions: new Set(listed.filter(({ own }) => own !== 1).map(({ transaction }) => transaction)),
      statements: new Map(statements.map(({ connection, start }) => [connection, Math.floor(Number(start))])),
    };
  }

  async #refuseUnlessWhole(highest: string): Promise<void> {
    const ask: Ask = async (sql, values) => this.#query(sql, values);
    await refuseUnlessWhole(ask, { table: this.#options.table, highest });
  }

  #within(ranges: readonly { first: string; last: string }[]): string {
    return ranges.map(({ first, last }) => `${this.#id} BETWEEN ${number(first)} AND ${number(last)}`).join(" OR ");
  }

  async #query<Found extends RowDataPacket>(sql: string, values?: readonly unknown[]): Promise<Found[]> {
    const { promise: cut, reject } = Promise.withResolvers<never>();
    this.#cut = reject;
    return Promise.race([this.#ask<Found>(sql, values), cut]);
  }
}

/** @throws SourceRefused; any other error may pass */
export async function openMysql(options: contract.DatabaseOptions): Promise<contract.Database> {
  contract.checkUrl(options.url, ["mysql:", "mariadb:"]);
  const connection = await connectMysql(options);
  try {
    const server = await checkServer(askerOf(connection, options.timeouts), options);
    return new MysqlDatabase(connection, server, options);
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/** For a statement: text that is compared with a number would lose digits. @throws where it is none */
function number(digits: string): string {
  if (!/^\d{1,20}$/.test(digits)) {
    throw new contract.SourceRefused(`the stored id ${excerpt(digits)} is none of a table of MySQL`);
  }
  return digits;
}

function quoted(name: string): string {
  return `\`${name}\``;
}
