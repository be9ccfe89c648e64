/** The shards of both databases, each with the tables of deploy/sql, and which private API reads which. */
import { readFile } from "node:fs/promises";
import type { SqlServer } from "../../test/support/postgres.ts";
import { type Connect, mariaDbSessions, postgresSessions } from "../../test/support/sql-workload.ts";

/** Of each database. */
const shardCount = 6;

export interface ArenaShard {
  /** `source/VARIABLE` */
  readonly name: string;
  readonly source: "pg" | "maria";
  readonly connect: Connect;
  /** Gives a transaction its number before it writes its row. */
  readonly early: string;
  /** Begins the accounts of the schedule that runs. */
  prefix: string;
}

export interface Shard {
  readonly shard: ArenaShard;
  readonly variable: string;
  /** For the private API with that number: its connections can be told apart. */
  readonly readerUrl: (number: number) => string;
}

/** Each has a user of its own, who finds a table of its own. */
export async function postgresShards({ url }: SqlServer): Promise<Shard[]> {
  const ddl = await readFile("deploy/sql/postgres.sql", "utf8");
  const session = await postgresSessions(url)();
  const shards: Shard[] = [];
  for (let n = 0; n < shardCount; n++) {
    await session.query(
      `CREATE ROLE shard_${n} LOGIN SUPERUSER; ALTER ROLE shard_${n} SET search_path = shard_${n}; CREATE SCHEMA shard_${n}`,
    );
    const own = url.replace("tidegate@", `shard_${n}@`);
    const connect = postgresSessions(own);
    const inShard = await connect();
    await inShard.query(ddl);
    await inShard.end();
    const early = "SELECT pg_current_xact_id()";
    shards.push({
      ...{ variable: `PG_${n}`, shard: { name: `pg/PG_${n}`, source: "pg", connect, early, prefix: "" } },
      readerUrl: (number) => `${own}?application_name=reader_${number}`,
    });
  }
  await session.end();
  return shards;
}

/** Each is a database. @param readers private APIs, each of which has a user of its own */
export async function mariaShards({ url }: SqlServer, readers: number): Promise<Shard[]> {
  const ddl = await readFile("deploy/sql/mysql.sql", "utf8");
  const session = await mariaDbSessions(url)();
  for (let number = 0; number < readers; number++) {
    await session.query(`CREATE USER reader_${number}@'%'; GRANT SELECT, PROCESS ON *.* TO reader_${number}@'%'`);
  }
  const shards: Shard[] = [];
  for (let n = 0; n < shardCount; n++) {
    await session.query(`CREATE DATABASE shard_${n}`);
    const own = url.replace(/[^/]*$/, `shard_${n}`);
    const connect = mariaDbSessions(own);
    const inShard = await connect();
    await inShard.query(ddl);
    await inShard.query("CREATE TABLE earlier (id bigint AUTO_INCREMENT PRIMARY KEY)");
    await inShard.end();
    const early = "INSERT INTO earlier VALUES ()";
    shards.push({
      ...{ variable: `MARIA_${n}`, shard: { name: `maria/MARIA_${n}`, source: "maria", connect, early, prefix: "" } },
      readerUrl: (number) => own.replace("root@", `reader_${number}@`),
    });
  }
  await session.end();
  return shards;
}

/**
 * Names of the shards that the private API with that number reads, as the databases list its connections. Each look has a connection of its
 * own: the servers restart.
 */
export function readersIn(
  connect: Readonly<Record<ArenaShard["source"], Connect>>,
): (source: ArenaShard["source"], number: number) => Promise<readonly string[]> {
  return async (source, number) => {
    const session = await connect[source]();
    try {
      const rows = await session.query(
        source === "pg"
          ? `SELECT usename AS shard FROM pg_stat_activity WHERE application_name = 'reader_${number}'`
          : `SELECT db AS shard FROM information_schema.processlist WHERE user = 'reader_${number}'`,
      );
      return rows.map(({ shard }) => `${source}/${String(shard).replace("shard", source.toUpperCase())}`);
    } finally {
      await session.end();
    }
  };
}
