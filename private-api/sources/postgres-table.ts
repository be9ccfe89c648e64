/** Checks at each connection that a table of PostgreSQL can be read without losing rows. */
import type { Client } from "pg";
import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import { ColumnMissing, type DatabaseOptions, SourceRefused } from "./contract.ts";
import { wholeTransaction } from "./snapshot.ts";

export type PostgresOptions = DatabaseOptions & Pick<SqlSourceRule, "xid" | "withoutXid" | "notify">;

export interface PostgresTable {
  readonly identity: string;
  readonly timeline: string;
  /** Quoted, for statements. */
  readonly name: string;
  readonly id: string;
  /** An expression: the number of the row's transaction. */
  readonly xid: string;
}

type ServerFacts = {
  system: string;
  database: string;
  /** Null in recovery. A restore or a failover begins a new one. */
  timeline: string | null;
  version: string;
};

type ColumnFacts = {
  name: string;
  type: string;
  fallback: string | null;
  /** NOT NULL. */
  required: boolean;
  /** An index begins with it. */
  indexed: boolean;
  /** A unique index begins with it. */
  unique: boolean;
};

const minVersion = 130_000;
const wholeNumbers = new Set(["smallint", "integer", "bigint"]);

/** @throws SourceRefused that says what to change */
export async function checkPostgresTable(client: Client, options: PostgresOptions): Promise<PostgresTable> {
  const server = await readServer(client);
  if (Number(server.version) < minVersion) throw new SourceRefused("PostgreSQL 13 or later is needed");
  if (server.timeline === null) {
    throw new SourceRefused(
      "the database is a replica in recovery, which has no snapshots of its own: name the primary",
    );
  }
  const name = options.table.split(".").map(quoted).join(".");
  const columns = await readColumns(client, name);
  if (columns.size === 0) throw new SourceRefused(`no such table, or no right to read it: ${options.table}`);
  const id = columns.get(options.id);
  if (!id || !wholeNumbers.has(id.type)) {
    throw new SourceRefused(
      `${options.table}.${options.id} must be a column of the type bigint, integer or smallint${id ? "" : sameBut(options.id, columns)}`,
    );
  }
  const missing = options.columns.find((column) => !columns.has(column));
  if (missing !== undefined)
    throw new ColumnMissing(`${options.table} has no column ${missing}${sameBut(missing, columns)}`);
  if (!id.unique) {
    options.warn(
      `no unique index of ${options.table} begins with ${options.id}: rows with the same id are lost. Add one`,
    );
  }
  if (await hasRowSecurity(client, name)) {
    options.warn(
      `row-level security of ${options.table} applies to this user: rows that no policy shows are not published. BYPASSRLS ends this warning`,
    );
  }
  return {
    identity: `postgres ${server.system} ${server.database} ${options.table}`,
    timeline: server.timeline,
    name,
    id: quoted(options.id),
    xid: transactionOf(columns, options),
  };
}

async function readServer(client: Client): Promise<ServerFacts> {
  const { rows } = await client.query<ServerFacts>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, current_database() AS database,
       CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS timeline,
       current_setting('server_version_num') AS version`,
  );
  const [server] = rows;
  if (!server) throw new Error("the database did not describe itself");
  return server;
}

async function readColumns(client: Client, table: string): Promise<ReadonlyMap<string, ColumnFacts>> {
  const { rows } = await client.query<ColumnFacts>(
    `SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, pg_get_expr(d.adbin, d.adrelid) AS fallback, a.attnotnull AS required,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indpred IS NULL) AS indexed,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indisunique) AS unique
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`,
    [table],
  );
  return new Map(rows.map((row) => [row.name, row]));
}

/** True also where a policy shows all rows. */
async function hasRowSecurity(client: Client, name: string): Promise<boolean> {
  const { rows } = await client.query<{ active: boolean }>("SELECT row_security_active($1) AS active", [name]);
  return rows[0]?.active ?? false;
}

function transactionOf(columns: ReadonlyMap<string, ColumnFacts>, options: PostgresOptions): string {
  const { table, xid = "xid", withoutXid, warn } = options;
  const column = columns.get(xid);
  const statement = `ALTER TABLE ${table.split(".").map(written).join(".")} ADD COLUMN ${written(xid)} xid8 NOT NULL DEFAULT pg_current_xact_id()`;
  if (!column) {
    if (withoutXid !== "accept") {
      throw new SourceRefused(
        `${table} has no column ${xid}: rows written inside a savepoint would be lost. Add it: ${statement}`,
      );
    }
    warn(
      `${table} has no column ${xid}: rows written inside a savepoint are lost, rows that are changed are published again, and each read looks at the whole table. Add it, once the source is removed from the rules: ${statement}`,
    );
    return wholeTransaction("xmin");
  }
  if (column.type !== "xid8" || !column.fallback?.includes("pg_current_xact_id()") || !column.required) {
    throw new SourceRefused(`${table}.${xid} must be xid8 NOT NULL DEFAULT pg_current_xact_id()`);
  }
  if (!column.indexed) {
    warn(`${table} has no index on ${xid}: each read looks at the whole table. Add one on (${xid}, ${options.id})`);
  }
  return quoted(xid);
}

/** A column with capitals in its name is another one than without. */
function sameBut(name: string, columns: ReadonlyMap<string, ColumnFacts>): string {
  const other = [...columns.keys()].find((column) => column.toLowerCase() === name.toLowerCase());
  return other === undefined ? "" : `: it is ${other}`;
}

/** For people: in quotation marks where it needs them. */
function written(name: string): string {
  return name === name.toLowerCase() ? name : quoted(name);
}

function quoted(name: string): string {
  return `"${name}"`;
}
