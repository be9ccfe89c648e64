/** A server with a schema, or a database of MariaDB, for each shard of a SQL source, and another database beside them. */
import { readFile } from "node:fs/promises";
import { startMariaDb } from "../../test/support/mariadb.ts";
import { type SqlServer, startPostgres } from "../../test/support/postgres.ts";
import { mariaDbSessions, postgresSessions, type SqlSession } from "../../test/support/sql-workload.ts";

export interface SqlSchemas {
  readonly server: SqlServer;
  readonly driver: "postgres" | "mysql";
  /** Of the shard with that number, which is created by the first call. */
  urlOf(shard: number): Promise<string>;
  connect(url: string): Promise<SqlSession>;
  /** The tables of deploy/sql, in the present schema. */
  readonly ddl: string;
  /** A transaction of another database that has written, and stays open. */
  openElsewhere(): Promise<SqlSession>;
  stop(): Promise<void>;
}

/** @param connections at once */
export async function startPostgresSchemas(connections: number): Promise<SqlSchemas> {
  const server = await startPostgres({ connections });
  const admin = await postgresSessions(server.url)();
  await admin.query("CREATE DATABASE other");
  const notify =
    "CREATE TRIGGER tidegate_notify AFTER INSERT ON transactions FOR EACH STATEMENT EXECUTE FUNCTION tidegate_notify('tidegate')";
  return {
    ...{ server, driver: "postgres", ddl: `${await readFile("deploy/sql/postgres.sql", "utf8")}; ${notify}` },
    urlOf: async (n) => {
      await admin.query(
        `CREATE ROLE s_${n} LOGIN SUPERUSER; ALTER ROLE s_${n} SET search_path = s_${n}; CREATE SCHEMA s_${n}`,
      );
      return server.url.replace("tidegate@", `s_${n}@`);
    },
    connect: async (url) => postgresSessions(url)(),
    openElsewhere: async () => {
      const session = await postgresSessions(server.url.replace(/postgres$/, "other"))();
      await session.query("BEGIN");
      await session.query("SELECT pg_current_xact_id()");
      return session;
    },
    stop: async () => {
      await admin.end();
      await server.stop();
    },
  };
}

/** @param connections at once */
export async function startMariaDbSchemas(connections: number): Promise<SqlSchemas> {
  const server = await startMariaDb({ connections });
  const admin = await mariaDbSessions(server.url)();
  await admin.query("CREATE DATABASE other; CREATE TABLE other.rows_of_others (id bigint)");
  return {
    ...{ server, driver: "mysql", ddl: await readFile("deploy/sql/mysql.sql", "utf8") },
    urlOf: async (n) => {
      await admin.query(`CREATE DATABASE s_${n}`);
      return server.url.replace(/[^/]*$/, `s_${n}`);
    },
    connect: async (url) => mariaDbSessions(url)(),
    openElsewhere: async () => {
      const session = await mariaDbSessions(server.url.replace(/[^/]*$/, "other"))();
      await session.query("BEGIN");
      await session.query("INSERT INTO rows_of_others VALUES (1)");
      return session;
    },
    stop: async () => {
      await admin.end();
      await server.stop();
    },
  };
}
