/** Connects to MySQL or MariaDB, and checks that a table can be read there without losing rows. */
import type { Connection, ConnectionOptions, RowDataPacket } from "mysql2/promise";
import * as contract from "./contract.ts";

/** ER_SPECIFIC_ACCESS_DENIED_ERROR. */
const accessDenied = 1227;

/** The caller destroys it. */
export async function connectMysql({
  url,
  name,
  timeouts = contract.defaultTimeouts,
}: Pick<contract.DatabaseOptions, "url" | "name" | "timeouts">): Promise<Connection> {
  const { createConnection } = await import("mysql2/promise");
  const settings: ConnectionOptions = {
    uri: url.replace(/^mariadb:/, "mysql:"),
    connectTimeout: timeouts.connectMs,
    charset: "utf8mb4",
    connectAttributes: { program_name: name },
  };
  const connection = await createConnection(settings);
  // Calls that are under way fail by themselves.
  connection.on("error", () => undefined);
  return connection;
}

/** Runs a statement; `?` stands for the values. */
export type Ask = <Found extends RowDataPacket>(sql: string, values?: readonly unknown[]) => Promise<Found[]>;

/** @param timeouts.queryMs a server that does not answer is given up after it */
export function askerOf(connection: Connection, { queryMs }: contract.Timeouts = contract.defaultTimeouts): Ask {
  return async <Found extends RowDataPacket>(sql: string, values: readonly unknown[] = []) =>
    (await connection.query<Found[]>({ sql, values: [...values], timeout: queryMs }))[0];
}

export interface MysqlServer {
  readonly identity: string;
  readonly timeline: string;
}

/** What the reader depends on, and what may change while it is connected. */
type TableFacts = RowDataPacket & {
  /** MariaDB 12 has names in place of 0 and 1. */
  readOnly: string;
  increment: string;
  engine: string | null;
  /** The id that the next row gets. */
  nextId: string | null;
};

/** @throws SourceRefused that says what to change */
export async function checkServer(ask: Ask, options: contract.DatabaseOptions): Promise<MysqlServer> {
  const [server] = await ask<RowDataPacket & { version: string; name: string | null; number: string }>(
    "SELECT VERSION() AS version, DATABASE() AS name, CAST(@@server_id AS CHAR) AS number",
  );
  await setUpSession(ask, { version: server?.version ?? "", options });
  await refuseUnlessReadable(ask, options);
  await refuseUnlessWhole(ask, { table: options.table, highest: "0" });
  // MariaDB has no such name: its number tells apart the servers of one replication. The host's name changes with a new container.
  const names = await ask<RowDataPacket & { Value: string }>("SHOW VARIABLES LIKE 'server_uuid'");
  return {
    identity: `mysql ${server?.name ?? ""} ${options.table}`,
    timeline: names[0]?.Value ?? server?.number ?? "",
  };
}

/** Whatever the server sets for new sessions. */
async function setUpSession(
  ask: Ask,
  { version, options }: { version: string; options: contract.DatabaseOptions },
): Promise<void> {
  const { statementMs } = options.timeouts ?? contract.defaultTimeouts;
  const isMariaDb = version.includes("MariaDB");
  const settings = [
    // The times of transactions are in the time zone of the server.
    "time_zone = 'SYSTEM'",
    // A statement sees what is committed before it, and all of it.
    ...["autocommit = 1", "sql_select_limit = 18446744073709551615"],
    isMariaDb ? `max_statement_time = ${statementMs / 1_000}` : `max_execution_time = ${statementMs}`,
    // Or the next id is a copy that the server keeps for a day. MySQL 5.7 keeps none, and does not know the setting.
    ...(!isMariaDb && Number.parseInt(version, 10) >= 8 ? ["information_schema_stats_expiry = 0"] : []),
  ];
  await ask(`SET SESSION ${settings.join(", ")}`);
  await ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
}

/**
 * A table that is read here must be written here, and nowhere else: a transaction that is applied from another server shows neither there nor
 * here which ids it has drawn before its commit. And it must not give ids again that were read.
 * @param read.highest the highest id that was read
 * @throws RowsLost where it does; SourceRefused
 */
export async function refuseUnlessWhole(ask: Ask, read: { table: string; highest: string }): Promise<void> {
  const { table, highest } = read;
  const [facts] = await ask<TableFacts>(
    `SELECT CAST(@@global.read_only AS CHAR) AS readOnly, CAST(@@global.auto_increment_increment AS CHAR) AS increment,
       engine AS engine, CAST(auto_increment AS CHAR) AS nextId
     FROM information_schema.tables WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?`,
    placeOf(table),
  );
  if (!facts) throw new contract.SourceRefused(`no such table, or no right to read it: ${table}`);
  const { readOnly, increment, engine, nextId } = facts;
  if (readOnly !== "0" && readOnly !== "OFF") {
    throw new contract.SourceRefused(
      "the server is read-only, so the transactions of its rows are elsewhere: name the primary",
    );
  }
  if (increment !== "1") {
    throw new contract.SourceRefused(
      `auto_increment_increment is ${increment}: where several servers write the table rows would be lost. Let one write, and set it to 1`,
    );
  }
  if (engine?.toLowerCase() !== "innodb") {
    throw new contract.SourceRefused(
      `${table} must be an InnoDB table, not ${engine ?? "a view"}: the transactions of others cannot be seen`,
    );
  }
  if (nextId !== null && BigInt(nextId) <= BigInt(highest)) {
    throw new contract.RowsLost(
      `rows up to ${highest} were read, and ${table} gives ${nextId} next: a failover or a restore has lost rows, or the table was emptied with TRUNCATE or created anew. To begin again, give the source another name`,
    );
  }
}

async function refuseUnlessReadable(ask: Ask, { table, id, columns }: contract.DatabaseOptions): Promise<void> {
  const found = await ask<RowDataPacket & { name: string; extra: string }>(
    `SELECT column_name AS name, extra AS extra FROM information_schema.columns
     WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?`,
    placeOf(table),
  );
  // Names of columns have no case there.
  const extras = new Map(found.map(({ name, extra }) => [name.toLowerCase(), extra.toLowerCase()]));
  const missing = [id, ...columns].find((column) => !extras.has(column.toLowerCase()));
  if (missing !== undefined) {
    throw new contract.ColumnMissing(`no such table or column, or no right to read it: ${table}.${missing}`);
  }
  if (!extras.get(id.toLowerCase())?.includes("auto_increment")) {
    throw new contract.SourceRefused(`${table}.${id} must be auto_increment`);
  }
  try {
    await ask("SELECT COUNT(*) FROM information_schema.innodb_trx");
  } catch (error) {
    if ((error as { errno?: number }).errno !== accessDenied) throw error;
    throw new contract.SourceRefused("the user needs the privilege PROCESS, to see which transactions are open");
  }
}

/** Schema or null, and table. */
export function placeOf(table: string): [string | null, string] {
  const [name = "", schema = null] = table.split(".").toReversed();
  return [schema, name];
}
