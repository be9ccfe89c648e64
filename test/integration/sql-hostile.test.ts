/** What applications and operators do to a table, its columns and its server while it is read. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../../private-api/sources/contract.ts";
import { openMysql } from "../../private-api/sources/mysql.ts";
import { openPostgres } from "../../private-api/sources/postgres.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { startMariaDb } from "../support/mariadb.ts";
import { type SqlServer, startPostgres } from "../support/postgres.ts";
import { publishedIn, type ShardState, shardStates } from "../support/sql-source.ts";
import { freshN, insertOf, mariaDbSessions, postgresSessions, type SqlSession } from "../support/sql-workload.ts";

const password = "never-in-a-log";
const own = { name: "test", warn: () => undefined };

let postgres: SqlServer;
let maria: SqlServer;
let inPostgres: SqlSession;
let inMaria: SqlSession;
let fleet: Fleet;

beforeAll(async () => {
  [postgres, maria] = await Promise.all([startPostgres(), startMariaDb()]);
  inPostgres = await postgresSessions(postgres.url)();
  inMaria = await mariaDbSessions(maria.url)();
  await inPostgres.query(await readFile("deploy/sql/postgres.sql", "utf8"));
  await inMaria.query(await readFile("deploy/sql/mysql.sql", "utf8"));
  await inMaria.query(
    `CREATE USER reader@'%' IDENTIFIED BY '${password}'; GRANT SELECT ON crm.* TO reader@'%'; GRANT PROCESS ON *.* TO reader@'%'`,
  );
  fleet = await startFleet({
    gateways: 0,
    environment: { MARIA_URL: maria.url.replace("root@", `reader:${password}@`) },
    rules: {
      namespaces: { default: { changes: true, historySize: 0 } },
      sqlSources: {
        maria: {
          ...{ driver: "mysql", url: "env:MARIA_URL", table: "transactions", start: "beginning" },
          ...{ channel: "maria:{account_id}", event: "{object_type}.{action}", data: "payload" },
        },
      },
    },
  });
});
afterAll(async () => {
  await fleet.stop();
  await Promise.all([inPostgres.end(), inMaria.end()]);
  await Promise.all([postgres.stop(), maria.stop()]);
});

test("SQL-3: row-level security that applies to the reader is a warning", async () => {
  await inPostgres.query(
    `CREATE TABLE guarded (LIKE transactions INCLUDING ALL); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
     CREATE POLICY own ON guarded USING (account_id = 'own'); CREATE ROLE limited LOGIN; GRANT SELECT ON guarded TO limited`,
  );
  const warnings: string[] = [];
  for (const user of ["tidegate", "limited"]) {
    const url = postgres.url.replace("tidegate@", `${user}@`);
    const options = { name: "test", url, table: "guarded", id: "id", columns: ["payload"] };
    (await openPostgres({ ...options, warn: (finding) => warnings.push(`${user}: ${finding}`) })).close();
  }
  expect(warnings).toEqual([expect.stringContaining("limited: row-level security of guarded applies to this user")]);
});

/** Of the rows that one read finds: the values of a column. */
async function newValues(database: Database, cursor: string, column: string): Promise<[string, (string | null)[]]> {
  const {
    next,
    page,
    rows = page === undefined ? [] : (await database.readPage(page, "")).rows,
  } = await database.readNew(cursor);
  return [next, rows.map(({ values }) => values[column] ?? null)];
}

test("SQL-3: names with capitals are read as they are written, and errors quote them", async () => {
  await inPostgres.query(
    `CREATE SCHEMA "Sales"; CREATE TABLE "Sales"."Log" ("Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Payload" jsonb,
       "Tx" xid8 NOT NULL DEFAULT pg_current_xact_id()); CREATE INDEX ON "Sales"."Log" ("Tx", "Id")`,
  );
  const names = { ...own, url: postgres.url, table: "Sales.Log", id: "Id" };
  const database = await openPostgres({ ...names, xid: "Tx", columns: ["Payload"] });
  const cursor = await database.begin("end");
  await inPostgres.query(`INSERT INTO "Sales"."Log" ("Payload") VALUES ('{"n": 1}')`);
  expect((await newValues(database, cursor, "Payload"))[1]).toEqual(['{"n": 1}']);
  database.close();
  const refusals: [object, string][] = [
    [{ xid: "Tx", columns: ["payload"] }, "Sales.Log has no column payload: it is Payload"],
    [{ xid: "Tx", id: "id" }, "smallint: it is Id"],
    [{ xid: "Wx" }, 'ALTER TABLE "Sales"."Log" ADD COLUMN "Wx" xid8'],
  ];
  for (const [changed, reason] of refusals) {
    await expect(openPostgres({ ...names, columns: ["Payload"], ...changed })).rejects.toThrow(reason);
  }
});

test("SQL-2: the reader goes on when columns of a table change and when the table is created again", async () => {
  const create = `CREATE TABLE changing (LIKE transactions INCLUDING ALL)`;
  const insert = insertOf("changing", freshN()).replace("transactions", "changing");
  await inPostgres.query(`${create}; ${insert}`);
  const open = async (): Promise<Database> =>
    openPostgres({ ...own, url: postgres.url, table: "changing", id: "id", columns: ["account_id", "payload"] });
  let database = await open();
  let cursor = await database.begin("beginning");
  async function readsOne(): Promise<void> {
    const [next, values] = await newValues(database, cursor, "account_id");
    expect(values).toEqual(["changing"]);
    cursor = next;
  }
  await readsOne();
  await inPostgres.query("ALTER TABLE changing ALTER COLUMN payload TYPE text, ALTER COLUMN id TYPE integer");
  await inPostgres.query(insert);
  await readsOne();
  await inPostgres.query(`DROP TABLE changing; ${create}; ${insert}`);
  await readsOne();
  await inPostgres.query("ALTER TABLE changing DROP COLUMN payload");
  await expect(database.readNew(cursor)).rejects.toThrow('column "payload" does not exist');
  database.close();
  await expect(open()).rejects.toThrow("changing has no column payload");
  await inPostgres.query(`DROP TABLE changing; ${create}; ${insert}`);
  database = await open();
  await readsOne();
  database.close();
});

test("SQL-6: rows of MariaDB that are no data are skipped whatever they are made of, and hold nothing back", async () => {
  await inMaria.query(
    `CREATE TABLE odd (id bigint AUTO_INCREMENT PRIMARY KEY, account_id varchar(64) CHARACTER SET latin1, payload longblob, at timestamp NULL)`,
  );
  await inMaria.query(
    `INSERT INTO odd (account_id, payload, at) VALUES ('é', '{"n": "é"}', NULL), (NULL, x'7b22ff227d', NULL), ('huge', REPEAT('x', 12000000), NULL),
       ('nul', x'00', NULL), ('last', '{}', '2025-10-26 00:30:00')`,
  );
  const columns = ["account_id", "payload", "at"];
  const database = await openMysql({ ...own, url: maria.url, table: "odd", id: "id", columns });
  const { page = "" } = await database.readNew(await database.begin("beginning"));
  const { rows } = await database.readPage(page, "");
  expect(rows.map(({ values }) => values["account_id"])).toEqual(["é", null, "huge", "nul", "last"]);
  const payloads = rows.map(({ values }) => values["payload"] ?? "");
  expect(payloads[0]).toBe('{"n": "é"}');
  expect(payloads[2]?.length).toBeLessThanOrEqual(131_072);
  expect(payloads[4]).toBe("{}");
  database.close();
});

test("SQL-6: bytes that are no UTF-8, in a database of PostgreSQL without an encoding, hold no row back", async () => {
  await inPostgres.query("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0");
  const url = postgres.url.replace(/postgres$/, "bytes");
  const session = await postgresSessions(url)();
  await session.query(
    `CREATE TABLE log (id bigserial PRIMARY KEY, payload text, xid xid8 NOT NULL DEFAULT pg_current_xact_id()); CREATE INDEX ON log (xid, id);
     INSERT INTO log (payload) VALUES ('{"n": "é"}'), (E'\\xff'), ('{}')`,
  );
  const database = await openPostgres({ ...own, url, table: "log", id: "id", columns: ["payload"] });
  const [, payloads] = await newValues(database, await database.begin("beginning"), "payload");
  expect(payloads).toEqual(['{"n": "é"}', "\ufffd", "{}"]);
  database.close();
  await session.end();
});

async function stateOf(): Promise<ShardState | undefined> {
  return (await shardStates(fleet.apiUrl)).get("maria/MARIA_URL");
}

/** Cuts every connection of the reader but this one, and waits until a new one fails for this reason. */
async function failsAnew(reason: string, kept = "0"): Promise<void> {
  await inMaria.query(insertOf("rotated", freshN()));
  const connections = await inMaria.query(
    `SELECT id FROM information_schema.processlist WHERE user = 'reader' AND id <> ${kept}`,
  );
  // One may have ended by itself.
  for (const { id } of connections) await inMaria.query(`KILL ${String(id)}`).catch(() => undefined);
  await eventually(async () => (await stateOf())?.lastError?.message.includes(reason) ?? false);
}

test("SQL-9: a password that was changed, and a limit of connections, are named, and end by themselves", async () => {
  await eventually(async () => (await stateOf())?.state === "live");
  await inMaria.query("ALTER USER reader@'%' IDENTIFIED BY 'another'");
  await failsAnew("Access denied");
  // The server counts those that are opened under a limit.
  await inMaria.query(`ALTER USER reader@'%' IDENTIFIED BY '${password}' WITH MAX_USER_CONNECTIONS 9`);
  await eventually(async () => (await stateOf())?.state === "live");
  const other = await mariaDbSessions(maria.url.replace("root@", `reader:${password}@`))();
  const [{ id } = {}] = await other.query("SELECT CONNECTION_ID() AS id");
  await inMaria.query("ALTER USER reader@'%' WITH MAX_USER_CONNECTIONS 1");
  await failsAnew("max_user_connections", String(id));
  await other.end();
  await eventually(async () => (await publishedIn(fleet.apiUrl, "maria:rotated")).length === 2);
  expect(fleet.log()).not.toContain(password);
});
