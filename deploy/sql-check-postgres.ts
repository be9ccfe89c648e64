/** The check of an application's table in PostgreSQL: the transaction of each row's last write must be in the log, with the row's key. */
import type { Client } from "pg";
import { connectPostgres, type PostgresConnection } from "../private-api/sources/postgres-connection.ts";
import { wholeTransaction } from "../private-api/sources/snapshot.ts";
import * as check from "./sql-check.ts";

interface Table {
  /** Quoted, for statements. */
  readonly name: string;
  readonly log: string;
  readonly key: string;
  /** The log knows of transactions from this one on. */
  readonly oldest: string;
}

type PageRow = { key: string; is_logged: boolean };

class PostgresTable implements check.CheckedTable {
  readonly #connection: PostgresConnection;
  readonly #table: Table;
  readonly #type: string;

  constructor(connection: PostgresConnection, table: Table, type: string) {
    this.#connection = connection;
    this.#table = table;
    this.#type = type;
  }

  /**
   * A row that a trigger logged inside a savepoint has the number of the subtransaction, as its row of the log has. A call outside of the savepoint
   * leaves another one there: only `xid` would tell, and the row has none. The trigger writes the key as JSON has it: a char(n) with its
   * spaces, a time with a T.
   */
  async readPage(after: string | undefined): Promise<readonly check.TableRow[]> {
    const { name, log, key, oldest } = this.#table;
    const { rows } = await this.#connection.client.query<PageRow>(
      `SELECT page.key::text AS key, page.transaction < $1::xid8 OR EXISTS (
         SELECT FROM ${log} l WHERE l.object_type = $2 AND l.object_id IN (page.key::text, to_jsonb(page.key) #>> '{}')
           AND (l.xmin = page.own OR l.xid::xid = page.own)
       ) AS is_logged
       FROM (
         SELECT w.${key} AS key, w.xmin AS own, ${wholeTransaction("w.xmin")} AS transaction FROM ${name} w
         ${after === undefined ? "" : `WHERE w.${key} > $3`} ORDER BY w.${key} LIMIT ${check.pageRows}
       ) page ORDER BY page.key`,
      [oldest, this.#type, ...(after === undefined ? [] : [after])],
    );
    return rows.map((row) => ({ key: row.key, isLogged: row.is_logged }));
  }

  async loggedEvents(): Promise<readonly string[]> {
    const { rows } = await this.#connection.client.query<{ event: string }>(
      `SELECT DISTINCT event FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid,
         unnest(ARRAY['INSERT', 'DELETE', 'UPDATE'], ARRAY[4, 8, 16]) AS known (event, bit)
       WHERE t.tgrelid = to_regclass($1) AND p.proname = 'tidegate_log_row' AND t.tgenabled IN ('O', 'A') AND t.tgtype & bit <> 0
         AND split_part(encode(t.tgargs, 'escape'), '\\000', 1) = encode(convert_to($2, 'UTF8'), 'escape')`,
      [this.#table.name, this.#type],
    );
    return rows.map(({ event }) => event);
  }

  close(): void {
    this.#connection.socket.destroy();
  }
}

/** @throws CheckRefused that says what to change; any other error may pass */
export async function openPostgresTable(url: string, names: check.CheckedNames): Promise<check.CheckedTable> {
  const connection = await connectPostgres({ url, name: "tidegate check" });
  try {
    const { client } = connection;
    const [name, log] = [quoted(names.table), quoted(names.log)];
    await refuseUnlessReadable(client, names);
    const { rows } = await client.query<{ oldest: string }>(
      `SELECT coalesce((SELECT xid FROM ${log} ORDER BY xid LIMIT 1), pg_snapshot_xmax(pg_current_snapshot()))::text AS oldest`,
    );
    const table = { name, log, key: quoted(names.key), oldest: rows[0]?.oldest ?? "0" };
    return new PostgresTable(connection, table, names.type);
  } catch (error) {
    connection.socket.destroy();
    throw error;
  }
}

type ColumnFacts = {
  name: string;
  /** NOT NULL, with a unique index of its own. */
  identifies: boolean;
  /** An index on several columns begins with it. */
  begins: boolean;
};

async function refuseUnlessReadable(client: Client, { table, log, key }: check.CheckedNames): Promise<void> {
  const keyColumn = (await columnsOf(client, table)).get(key);
  if (!keyColumn?.identifies) {
    throw new check.CheckRefused(`${table}.${key} must be the primary key: name another column with --key`);
  }
  const logged = await columnsOf(client, log);
  const missing = ["xid", "object_type", "object_id"].find((column) => !logged.has(column));
  if (missing !== undefined) {
    throw new check.CheckRefused(`${log} has no column ${missing}: is it the table of deploy/sql/postgres.sql?`);
  }
  if (!logged.get("object_type")?.begins) {
    throw new check.CheckRefused(
      `${log} has no index on its objects, so each page would read all of it. Add one: CREATE INDEX CONCURRENTLY ON ${log} (object_type, object_id)`,
    );
  }
}

/** @throws CheckRefused where there is no such table */
async function columnsOf(client: Client, table: string): Promise<ReadonlyMap<string, ColumnFacts>> {
  const { rows } = await client.query<ColumnFacts>(
    `SELECT a.attname AS name,
       a.attnotnull AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1
         AND i.indisunique AND i.indpred IS NULL) AS identifies,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indnkeyatts > 1) AS begins
     FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`,
    [quoted(table)],
  );
  if (rows.length === 0) throw new check.CheckRefused(`no such table, or no right to read it: ${table}`);
  return new Map(rows.map((row) => [row.name, row]));
}

function quoted(name: string): string {
  return name
    .split(".")
    .map((part) => `"${part}"`)
    .join(".");
}
