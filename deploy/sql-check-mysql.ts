/** The check of an application's table in MySQL or MariaDB, which cannot tell who wrote a row last: the log must know each row. */
import type { Connection, RowDataPacket } from "mysql2/promise";
import { defaultTimeouts } from "../private-api/sources/contract.ts";
import { type Ask, askerOf, connectMysql, placeOf } from "../private-api/sources/mysql-server.ts";
import * as check from "./sql-check.ts";

type KeyRow = RowDataPacket & { row_key: string };

class MysqlTable implements check.CheckedTable {
  readonly #connection: Connection;
  readonly #ask: Ask;
  readonly #names: check.CheckedNames;
  readonly #isNumber: boolean;

  /** @param options.isNumber the key is a whole number, not a text */
  constructor(connection: Connection, { names, isNumber }: { names: check.CheckedNames; isNumber: boolean }) {
    this.#connection = connection;
    this.#ask = askerOf(connection);
    this.#names = names;
    this.#isNumber = isNumber;
  }

  /** The log is read after the rows: it has what logged them. */
  async readPage(after: string | undefined): Promise<readonly check.TableRow[]> {
    const { table, log, type } = this.#names;
    const key = quoted(this.#names.key);
    const from = after === undefined ? "" : `WHERE w.${key} > ${this.#isNumber ? wholeNumber(after) : "?"}`;
    const rows = await this.#ask<KeyRow>(
      `SELECT CAST(w.${key} AS CHAR) AS row_key FROM ${quoted(table)} w ${from} ORDER BY w.${key} LIMIT ${check.pageRows}`,
      after === undefined || this.#isNumber ? [] : [after],
    );
    if (rows.length === 0) return [];
    const keys = rows.map((row) => row.row_key);
    // As literals: they are compared by the rules of the column, with its index. What differs only for a reader is left to the set, so each
    // spelling must be among the rows: as bytes.
    const known = await this.#ask<RowDataPacket & { object_id: Buffer }>(
      `SELECT DISTINCT CAST(CONVERT(l.object_id USING utf8mb4) AS BINARY) AS object_id FROM ${quoted(log)} l
       WHERE l.object_type = ? AND l.object_id IN (?)`,
      [type, keys],
    );
    const logged = new Set(known.map((row) => row.object_id.toString()));
    return keys.map((each) => ({ key: each, isLogged: logged.has(each) }));
  }

  async loggedEvents(): Promise<readonly string[]> {
    const rows = await this.#ask<RowDataPacket & { event: string }>(
      `SELECT event_manipulation AS event FROM information_schema.triggers
       WHERE event_object_schema = COALESCE(?, DATABASE()) AND event_object_table = ? AND action_statement LIKE '%tidegate\\_log%'`,
      placeOf(this.#names.table),
    );
    return rows.map(({ event }) => event);
  }

  close(): void {
    this.#connection.destroy();
  }
}

/** @throws CheckRefused that says what to change; any other error may pass */
export async function openMysqlTable(url: string, names: check.CheckedNames): Promise<check.CheckedTable> {
  const connection = await connectMysql({ url, name: "tidegate check" });
  try {
    const ask = askerOf(connection);
    const [server] = await ask<RowDataPacket & { version: string }>("SELECT VERSION() AS version");
    const limit = server?.version.includes("MariaDB")
      ? `max_statement_time = ${defaultTimeouts.statementMs / 1_000}`
      : `max_execution_time = ${defaultTimeouts.statementMs}`;
    // The library escapes values with backslashes, which that mode would take as they are.
    const mode = "sql_mode = REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', '')";
    await ask(`SET SESSION ${limit}, ${mode}`);
    return new MysqlTable(connection, { names, isNumber: await refuseUnlessReadable(ask, names) });
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/** @returns whether the key is a whole number */
async function refuseUnlessReadable(ask: Ask, names: check.CheckedNames): Promise<boolean> {
  const { table, log, key } = names;
  const { type = "", isRequired } = (await columnsOf(ask, table)).get(key) ?? {};
  const unique = await indexesOf(ask, table);
  const isNumber = type.endsWith("int");
  if (!isRequired || !unique.some(({ columns, isUnique }) => isUnique && columns === key)) {
    throw new check.CheckRefused(`${table}.${key} must be the primary key: name another column with --key`);
  }
  if (!isNumber && type !== "char" && type !== "varchar") {
    throw new check.CheckRefused(`${table}.${key} must be a whole number or a text, not ${type}`);
  }
  const logged = await columnsOf(ask, log);
  const missing = ["object_type", "object_id"].find((column) => !logged.has(column));
  if (missing !== undefined) {
    throw new check.CheckRefused(`${log} has no column ${missing}: is it the table of deploy/sql/mysql.sql?`);
  }
  const indexes = await indexesOf(ask, log);
  if (!indexes.some(({ columns }) => `${columns},`.startsWith("object_type,object_id,"))) {
    throw new check.CheckRefused(
      `${log} has no index on its objects, so each page would read all of it. Add one: CREATE INDEX transactions_object ON ${log} (object_type, object_id)`,
    );
  }
  return isNumber;
}

/** By name. @throws CheckRefused where there is no such table */
async function columnsOf(ask: Ask, table: string): Promise<ReadonlyMap<string, { type: string; isRequired: boolean }>> {
  const rows = await ask<RowDataPacket & { name: string; type: string; nullable: string }>(
    `SELECT column_name AS name, data_type AS type, is_nullable AS nullable FROM information_schema.columns
     WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?`,
    placeOf(table),
  );
  if (rows.length === 0) throw new check.CheckRefused(`no such table, or no right to read it: ${table}`);
  return new Map(rows.map(({ name, type, nullable }) => [name, { type, isRequired: nullable === "NO" }]));
}

async function indexesOf(ask: Ask, table: string): Promise<readonly { columns: string; isUnique: boolean }[]> {
  const rows = await ask<RowDataPacket & { columns: string; non_unique: number | string }>(
    `SELECT GROUP_CONCAT(column_name ORDER BY seq_in_index) AS columns, MAX(non_unique) AS non_unique FROM information_schema.statistics
     WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? GROUP BY index_name`,
    placeOf(table),
  );
  return rows.map((row) => ({ columns: row.columns, isUnique: Number(row.non_unique) === 0 }));
}

/** For a statement: a text that is compared with a number would lose digits. */
function wholeNumber(text: string): string {
  if (!/^-?\d{1,20}$/.test(text)) throw new check.CheckRefused("--after: must be a whole number, as the key is");
  return text;
}

function quoted(name: string): string {
  return name
    .split(".")
    .map((part) => `\`${part}\``)
    .join(".");
}
