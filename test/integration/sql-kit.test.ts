/** The kit for applications on real databases: the check of writes that bypassed the log, and what a reader leaves behind. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkPostgresTable } from "../../private-api/sources/postgres-table.ts";
import { connectPostgres } from "../../private-api/sources/postgres-connection.ts";
import { PostgresDatabase } from "../../private-api/sources/postgres.ts";
import { eventually } from "../support/eventually.ts";
import { tokens } from "../support/fleet.ts";
import { startMariaDb } from "../support/mariadb.ts";
import { type SqlServer, startPostgres } from "../support/postgres.ts";
import { type PrivateApiProcess, spawnPrivateApi } from "../support/private-api-process.ts";
import { type Spawned } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { allIsPublished, checkContacts, runCheck } from "../support/sql-source.ts";
import { freshN, insertOf, mariaDbSessions, postgresSessions, type SqlSession } from "../support/sql-workload.ts";

let redis: RedisServer;
let postgres: SqlServer;
let maria: SqlServer;
let inPostgres: SqlSession;
let inMaria: SqlSession;
const processes: Spawned[] = [];
/** More than two pages of the check. */
const rows = 4_500;

beforeAll(async () => {
  [redis, postgres, maria] = await Promise.all([startRedis(), startPostgres(), startMariaDb()]);
  inPostgres = await postgresSessions(postgres.url)();
  inMaria = await mariaDbSessions(maria.url)();
  await inPostgres.query(await readFile("deploy/sql/postgres.sql", "utf8"));
  await inMaria.query(await readFile("deploy/sql/mysql.sql", "utf8"));
  await inMaria.query(
    "CREATE USER reader@'%'; GRANT SELECT ON crm.* TO reader@'%'; GRANT PROCESS ON *.* TO reader@'%'",
  );
});
afterAll(async () => {
  for (const process of processes) process.kill("SIGKILL");
  await Promise.all([inPostgres.end(), inMaria.end()]);
  await Promise.all([redis.stop(), postgres.stop(), maria.stop()]);
});

test("SQL-12: the check finds a write of PostgreSQL that logged nothing under its object and type", async () => {
  await inPostgres.query("CREATE TABLE contacts (id bigint PRIMARY KEY, account_id text, name text)");
  const trigger = "AFTER INSERT OR UPDATE OR DELETE ON contacts FOR EACH ROW EXECUTE FUNCTION";
  await inPostgres.query(`CREATE TRIGGER logged ${trigger} tidegate_log_row('contact', 'account_id', 'id')`);
  await inPostgres.query(`INSERT INTO contacts SELECT n, 'kit', 'Ada' FROM generate_series(1, ${rows}) n`);
  expect(await checkContacts(postgres.url)).toEqual({ exitCode: 0, bypassed: [], missingTriggers: [] });
  await inPostgres.query("ALTER TABLE contacts DISABLE TRIGGER logged");
  const update = "UPDATE contacts SET name = 'Grace' WHERE id IN (3, 4400)";
  await inPostgres.query(`BEGIN; ${update}; SELECT tidegate_log('kit', 'invoice', '4400', 'updated', '{}'); COMMIT`);
  await inPostgres.query("ALTER TABLE contacts ENABLE TRIGGER logged");
  expect(await checkContacts(postgres.url)).toMatchObject({ exitCode: 1, bypassed: ["3", "4400"] });
  expect(await checkContacts(postgres.url, ["--after", "3"])).toMatchObject({ bypassed: ["4400"] });
});

test("SQL-12: the check knows keys as the trigger of the kit writes them, and as an application does", async () => {
  const keys = [
    ["char", "char(10)", "ab"],
    ["timestamptz", "timestamptz", "2026-07-01 12:00:00.5+00"],
    ["numeric", "numeric(6, 2)", "7"],
  ];
  for (const [name, type, value] of keys) {
    await inPostgres.query(`CREATE TABLE by_${name} (id ${type} PRIMARY KEY, account_id text DEFAULT 'kit')`);
    const insert = `INSERT INTO by_${name} (id) VALUES ('${value}')`;
    const log = "SELECT tidegate_log('kit', 'contact', id::text, 'created', '{}')";
    await inPostgres.query(`BEGIN; ${insert}; ${log} FROM by_${name}; COMMIT`);
    const args = ["--table", `by_${name}`];
    expect(await checkContacts(postgres.url, args), name).toMatchObject({ bypassed: [] });
    const trigger = `AFTER INSERT OR UPDATE OR DELETE ON by_${name} FOR EACH ROW EXECUTE FUNCTION`;
    await inPostgres.query(`CREATE TRIGGER logged ${trigger} tidegate_log_row('contact', 'account_id', 'id')`);
    await inPostgres.query(`UPDATE by_${name} SET account_id = 'other'`);
    expect(await checkContacts(postgres.url, args), name).toMatchObject({ exitCode: 0, bypassed: [] });
    await inPostgres.query(`ALTER TABLE by_${name} DISABLE TRIGGER logged`);
    await inPostgres.query(`UPDATE by_${name} SET account_id = 'kit'`);
    expect((await checkContacts(postgres.url, args)).bypassed, name).toHaveLength(1);
  }
});

test("SQL-12: the check pages through a table of MariaDB by numbers beyond those of JavaScript", async () => {
  const first = 9_007_199_254_740_993n;
  const id = (n: number): string => String(first + BigInt(n));
  await inMaria.query("CREATE TABLE contacts (id bigint PRIMARY KEY, account_id varchar(64), name varchar(64))");
  const ids = Array.from({ length: rows }, (_, n) => id(n));
  await inMaria.query(`INSERT INTO contacts VALUES ${ids.map((each) => `(${each}, 'kit', 'Ada')`).join(", ")}`);
  const bypassed = [id(3), id(4_400)];
  await inMaria.query(
    `INSERT INTO transactions (account_id, object_type, object_id, action, payload)
       SELECT 'kit', 'contact', id, 'created', '{}' FROM contacts WHERE id NOT IN (${bypassed.join(", ")})`,
  );
  expect(await checkContacts(maria.url)).toMatchObject({ exitCode: 1, bypassed });
  expect(await checkContacts(maria.url, ["--after", id(3)])).toMatchObject({ bypassed: [id(4_400)] });
});

test("SQL-12: a key of MariaDB that ends a text in SQL is a text, whatever the server's sql_mode", async () => {
  await inMaria.query("CREATE TABLE named (name varchar(64) PRIMARY KEY)");
  const keys = ["a' OR 1=1 -- ", "it's \u001b[2J", "plain"];
  for (const key of keys) await inMaria.query(`INSERT INTO named VALUES ('${key.replaceAll("'", "''")}')`);
  await inMaria.query("SET GLOBAL sql_mode = CONCAT(@@GLOBAL.sql_mode, ',NO_BACKSLASH_ESCAPES')");
  const args = ["--table", "named", "--key", "name"];
  try {
    expect(await checkContacts(maria.url, args)).toMatchObject({ exitCode: 1, bypassed: keys });
    const { output } = await runCheck(maria.url, args);
    expect(output).toContain("named name=it's \\u001b[2J: ");
  } finally {
    await inMaria.query("SET GLOBAL sql_mode = REPLACE(@@GLOBAL.sql_mode, 'NO_BACKSLASH_ESCAPES', '')");
  }
});

test("SQL-12: keys that differ in case only are keys of their own, whatever the log's collation", async () => {
  await inMaria.query("CREATE TABLE cased (name varchar(64) COLLATE utf8mb4_bin PRIMARY KEY)");
  await inMaria.query("INSERT INTO cased VALUES ('Ann'), ('ann'), ('ANN')");
  for (const name of ["Ann", "ann"])
    await inMaria.query(`CALL tidegate_log('kit', 'contact', '${name}', 'created', '{}')`);
  const args = ["--table", "cased", "--key", "name"];
  expect(await checkContacts(maria.url, args)).toMatchObject({ exitCode: 1, bypassed: ["ANN"] });
});

test.each(["latin1", "utf8mb3"])(
  "SQL-7: the procedure of the kit keeps each character where the default of the database is %s",
  async (characters) => {
    await inMaria.query(`CREATE DATABASE crm_${characters} CHARACTER SET ${characters}`);
    const session = await mariaDbSessions(maria.url.replace(/crm$/, `crm_${characters}`))();
    await session.query(await readFile("deploy/sql/mysql.sql", "utf8"));
    const text = "Zoë-Łukasz-😀";
    const payload = JSON.stringify({ name: text });
    // Without the strict mode MySQL replaces what a character set lacks, and reports no error.
    for (const mode of ["DEFAULT", "''"]) {
      await session.query(`SET SESSION sql_mode = ${mode}`);
      await session.query(`CALL tidegate_log('${text}', '${text}', '${text}', '${text}', '${payload}')`);
    }
    const columns = "account_id, object_type, object_id, action, JSON_UNQUOTE(JSON_EXTRACT(payload, '$.name')) AS name";
    const row = { account_id: text, object_type: text, object_id: text, action: text, name: text };
    expect(await session.query(`SELECT ${columns} FROM transactions`)).toEqual([row, row]);
    await session.end();
  },
);

test("SQL-12: the check says what it needs, and never quotes the URL", async () => {
  await inPostgres.query("CREATE TABLE slow_log (LIKE transactions); CREATE TABLE keyless (id bigint, name text)");
  await inMaria.query("CREATE TABLE vague (id bigint UNIQUE)");
  const away = "postgres://app:never-in-a-log@127.0.0.1:1/crm";
  const refusals: [url: string, args: string[], finding: string][] = [
    [postgres.url, ["--table", "nowhere"], "no such table, or no right to read it: nowhere"],
    [postgres.url, ["--table", "contacts", "--log", "contacts"], "contacts has no column xid"],
    [postgres.url, ["--table", "contacts", "--log", "slow_log"], "ON slow_log (object_type, object_id)"],
    [postgres.url, ["--table", "keyless"], "keyless.id must be the primary key"],
    [maria.url, ["--table", "nowhere"], "no such table, or no right to read it: nowhere"],
    [maria.url, ["--table", "contacts", "--log", "contacts"], "contacts has no column object_type"],
    [maria.url, ["--table", "vague"], "vague.id must be the primary key"],
    [away, ["--table", "contacts"], "ECONNREFUSED"],
  ];
  for (const [url, args, finding] of refusals) {
    const { exitCode, output } = await runCheck(url, args);
    expect({ exitCode, output }).toEqual({ exitCode: 1, output: expect.stringContaining(finding) });
    expect(output).not.toContain("never-in-a-log");
  }
});

test("SQL-15: a pooler that gives a read another session costs it the plan, and no row", async () => {
  const connection = await connectPostgres({ url: postgres.url, name: "pooled" });
  const options = { url: postgres.url, table: "transactions", id: "id", columns: ["object_id"], name: "pooled" };
  const table = await checkPostgresTable(connection.client, { ...options, warn: () => undefined });
  const database = new PostgresDatabase(connection, table, options.columns);
  let cursor = await database.begin("end");
  const found: string[] = [];
  for (let turn = 0; turn < 3; turn++) {
    await inPostgres.query(insertOf("pooled", freshN()));
    // As in a session that has not seen the statement.
    await connection.client.query("DEALLOCATE ALL");
    const { next, rows = [] } = await database.readNew(cursor);
    cursor = next;
    found.push(...rows.map(({ values }) => values["object_id"] ?? ""));
  }
  const [{ ids } = {}] = await inPostgres.query(
    "SELECT array_agg(object_id ORDER BY id) AS ids FROM transactions WHERE account_id = 'pooled'",
  );
  expect(found).toEqual(ids);
  database.close();
});

async function startReader(): Promise<PrivateApiProcess> {
  return spawnPrivateApi(
    {
      REDIS_URL: redis.url,
      POSTGRES_URL: postgres.url,
      MARIA_URL: maria.url.replace("root@", "reader@"),
    },
    processes,
  );
}

/** Of readers. */
async function sessionsIn(): Promise<{ postgres: unknown[]; maria: unknown[] }> {
  return {
    postgres: await inPostgres.query("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tidegate %'"),
    maria: await inMaria.query("SELECT id FROM information_schema.processlist WHERE user = 'reader'"),
  };
}

/** Old versions of rows can be removed: no session sees them any more, and no slot keeps them. */
async function expectNothingIsKept(): Promise<void> {
  await inPostgres.query("CREATE TABLE updated AS SELECT n FROM generate_series(1, 10000) n; DELETE FROM updated");
  await eventually(async () => {
    // Until no statement of before is under way.
    await inPostgres.query("VACUUM updated");
    const [{ bytes } = {}] = await inPostgres.query("SELECT pg_relation_size('updated') AS bytes");
    return Number(bytes) === 0;
  });
  await inPostgres.query("DROP TABLE updated");
  expect(await inPostgres.query("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
  expect(await inPostgres.query("SELECT gid FROM pg_prepared_xacts")).toEqual([]);
  await eventually(async () => {
    // The table is a copy, which is made again only once nobody has read it for 0.1 s.
    await inMaria.query("DO SLEEP(0.15)");
    return (await inMaria.query("SELECT trx_id FROM information_schema.innodb_trx")).length === 0;
  });
}

test("SQL-10: a reader keeps nothing in either database, and leaves none where it is stopped or killed", async () => {
  const mapping = { table: "transactions", event: "{object_type}.{action}", data: "payload", start: "beginning" };
  const rules = {
    namespaces: { default: { changes: true, historySize: 0 } },
    sqlSources: {
      pg: { ...mapping, driver: "postgres", url: "env:POSTGRES_URL", channel: "pg:{account_id}", notify: "tidegate" },
      maria: { ...mapping, driver: "mysql", url: "env:MARIA_URL", channel: "maria:{account_id}" },
    },
  };
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const reader = await startReader();
    const answer = await fetch(`${reader.url}/v1/rules`, {
      method: "PUT",
      headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
      body: JSON.stringify(rules),
    });
    expect(answer.status).toBe(200);
    for (const session of [inPostgres, inMaria]) await session.query(insertOf(1, freshN()));
    await allIsPublished(reader.url, "pg/POSTGRES_URL", inPostgres);
    await allIsPublished(reader.url, "maria/MARIA_URL", inMaria);
    expect(await sessionsIn()).toMatchObject({ postgres: [{}], maria: [{}] });
    await expectNothingIsKept();
    reader.process.kill(signal);
    await reader.process.exited;
    await eventually(async () => {
      const { postgres, maria } = await sessionsIn();
      return postgres.length + maria.length === 0;
    });
    await expectNothingIsKept();
  }
});
