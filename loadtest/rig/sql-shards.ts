/** Shards of a SQL source under load: databases of one server, each with the tables of deploy/sql and one connection of the application. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { startMariaDb } from "../../test/support/mariadb.ts";
import { type SqlServer, startPostgres } from "../../test/support/postgres.ts";
import { mariaDbSessions, postgresSessions, type SqlSession } from "../../test/support/sql-workload.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { type PolledEntry, polledAtOnce, type PolledLogs } from "./polling-readers.ts";

export type SqlDriver = "postgres" | "mysql";

export interface SqlRow {
  readonly account: string;
  /** JSON without apostrophes. */
  readonly payload: string;
}

/** Of the whole server, since its start. */
export interface ServerUse {
  readonly statements: number;
  /** Of the sessions that read the sources; 0 for MariaDB, which runs all in one process. */
  readonly readerCpuMs: number;
  /** Sessions that read the sources. */
  readonly readers: number;
}

const notifyTrigger =
  "CREATE TRIGGER tidegate_notify AFTER INSERT ON transactions FOR EACH STATEMENT EXECUTE FUNCTION tidegate_notify('tidegate')";
const schemas = join(import.meta.dirname, "../../deploy/sql");

export class SqlShards implements PolledLogs {
  readonly driver: SqlDriver;
  readonly #server: SqlServer;
  /** Of the application, by shard. */
  readonly #sessions: SqlSession[] = [];
  /** The last write of each shard: a session runs one statement at a time. */
  readonly #writing: Promise<unknown>[] = [];
  /** Of the old way, by shard. */
  readonly #polling = new Map<number, SqlSession>();
  #own: SqlSession | undefined;

  private constructor(driver: SqlDriver, server: SqlServer) {
    this.driver = driver;
    this.#server = server;
  }

  /** The caller stops it. @param options.notify PostgreSQL: writes notify the reader */
  static async start(driver: SqlDriver, options: { count: number; notify: boolean }): Promise<SqlShards> {
    const { count, notify } = options;
    const maxConnections = maxConnectionsOf(count);
    const server = await (driver === "postgres"
      ? startPostgres({ connections: maxConnections })
      : startMariaDb({ connections: maxConnections }));
    const shards = new SqlShards(driver, server);
    try {
      await shards.#create(count, notify);
    } catch (error) {
      await shards.stop();
      throw error;
    }
    return shards;
  }

  /** By the name of its variable: what a private API needs in its environment. */
  get urls(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#sessions.map((_, shard) => [`SHARD_${shard}`, this.#urlOf(shard, "reader")]));
  }

  /** One transaction with one row. */
  async write(shard: number, { account, payload }: SqlRow): Promise<void> {
    const call = this.driver === "postgres" ? "SELECT" : "CALL";
    const sql = `${call} tidegate_log('${account}', 'load', '1', 'moved', '${payload}')`;
    const writing = (this.#writing[shard] ?? Promise.resolve()).then(async () => this.#sessions[shard]?.query(sql));
    this.#writing[shard] = writing;
    await writing;
  }

  async firstPointer(shard: number): Promise<string> {
    const session = await this.#connect(shard);
    this.#polling.set(shard, session);
    const [row] = await session.query("SELECT COALESCE(MAX(id), 0) AS newest FROM transactions");
    return String(row?.["newest"]);
  }

  async readAfter(shard: number, pointer: string): Promise<readonly PolledEntry[]> {
    const rows = await this.#polling.get(shard)?.query(
      `SELECT id, CAST(payload AS ${this.driver === "postgres" ? "text" : "CHAR"}) AS payload FROM transactions
       WHERE id > ${pointer} ORDER BY id LIMIT ${polledAtOnce}`,
    );
    return (rows ?? []).map(({ id, payload }) => ({
      id: String(id),
      change: `{"type":"moved","data":${String(payload)}}`,
    }));
  }

  async use(): Promise<ServerUse> {
    const own = this.#own;
    if (!own) return { statements: 0, readerCpuMs: 0, readers: 0 };
    if (this.driver === "mysql") {
      const [status] = await own.query("SHOW GLOBAL STATUS LIKE 'Questions'");
      const readers = await own.query("SELECT id FROM information_schema.processlist WHERE user = 'reader'");
      return { statements: Number(status?.["Value"]), readerCpuMs: 0, readers: readers.length };
    }
    const [sum] = await own.query("SELECT sum(xact_commit + xact_rollback) AS statements FROM pg_stat_database");
    const readers = await own.query("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tidegate %'");
    const processes = readers.map(({ pid }) => ({ role: "reader", pid: Number(pid) }));
    return {
      statements: Number(sum?.["statements"]),
      readerCpuMs: cpuMsByRole(processes).get("reader") ?? 0,
      readers: readers.length,
    };
  }

  async stop(): Promise<void> {
    const sessions = [...this.#sessions, ...this.#polling.values(), ...(this.#own ? [this.#own] : [])];
    await Promise.all(sessions.map(async (session) => session.end()));
    await this.#server.stop();
  }

  async #create(count: number, notify: boolean): Promise<void> {
    const { driver } = this;
    const isPostgres = driver === "postgres";
    const own = await (isPostgres ? postgresSessions : mariaDbSessions)(this.#server.url)();
    this.#own = own;
    const schema = await readFile(join(schemas, isPostgres ? "postgres.sql" : "mysql.sql"), "utf8");
    if (isPostgres) await own.query("CREATE ROLE reader LOGIN IN ROLE pg_read_all_data");
    else {
      await own.query(`SET GLOBAL max_connections = ${maxConnectionsOf(count)}`);
      await own.query("CREATE USER reader@'%'; GRANT SELECT, PROCESS ON *.* TO reader@'%'");
    }
    for (let shard = 0; shard < count; shard++) {
      await own.query(`CREATE DATABASE shard${shard}`);
      const session = await this.#connect(shard);
      this.#sessions.push(session);
      await session.query(schema);
      if (isPostgres && notify) await session.query(notifyTrigger);
    }
  }

  async #connect(shard: number): Promise<SqlSession> {
    const url = this.#urlOf(shard);
    return (this.driver === "postgres" ? postgresSessions(url) : mariaDbSessions(url))();
  }

  #urlOf(shard: number, user?: string): string {
    const url = new URL(this.#server.url);
    url.pathname = `/shard${shard}`;
    if (user !== undefined) url.username = user;
    return url.href;
  }
}

/** Of the readers, the application and the old way, and a few. */
function maxConnectionsOf(shards: number): number {
  return 3 * shards + 20;
}
