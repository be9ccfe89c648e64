/** A table of a real MariaDB server becomes publications, through everything that makes a naive reader lose rows. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { Database } from "../../private-api/sources/contract.ts";
import { openDatabase } from "../../private-api/sources/open-database.ts";
import { openMysql } from "../../private-api/sources/mysql.ts";
import { parseProgress } from "../../private-api/sources/progress.ts";
import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { startMariaDb } from "../support/mariadb.ts";
import type { SqlServer } from "../support/postgres.ts";
import { newStage, startShardReader, stopShardReaders } from "../support/shard-stage.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import {
  checkContacts,
  publishedAndCommitted,
  publishedIn,
  publishedInversions,
  shardStates,
} from "../support/sql-source.ts";
import {
  type Connect,
  freshN,
  insertOf,
  mariaDbSessions,
  type SqlSession,
  startNaiveReader,
  startWorkload,
  writeThroughRestart,
} from "../support/sql-workload.ts";

const mapping = { driver: "mysql", table: "transactions", event: "{object_type}.{action}", data: "payload" };
const early = "INSERT INTO earlier VALUES ()";

let server: SqlServer;
/** To the server, for the reader. */
let link: TcpProxy;
let fleet: Fleet;
let connect: Connect;
let session: SqlSession;

beforeAll(async () => {
  server = await startMariaDb();
  link = await startTcpProxy(server.port);
  connect = mariaDbSessions(server.url);
  session = await connect();
  await session.query(await readFile("deploy/sql/mysql.sql", "utf8"));
  await session.query("CREATE TABLE earlier (id bigint AUTO_INCREMENT PRIMARY KEY)");
  await session.query("CREATE USER unprivileged@'%'; GRANT SELECT ON crm.* TO unprivileged@'%'");
  // What the server sets for new sessions does not hold for the reader's.
  await session.query("SET GLOBAL autocommit = 0; SET GLOBAL TRANSACTION ISOLATION LEVEL READ UNCOMMITTED");
  fleet = await startFleet({
    gateways: 0,
    environment: { CRM_URL: linkedUrl(), POOR_URL: server.url.replace("root@", "unprivileged@") },
    rules: {
      namespaces: { default: { changes: true, historySize: 0 } },
      sqlSources: {
        crm: { ...mapping, url: "env:CRM_URL", channel: "account:{account_id}" },
        poor: { ...mapping, url: "env:POOR_URL", channel: "poor:{account_id}" },
      },
    },
  });
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("crm/CRM_URL")?.state === "live");
  await session.query("SET GLOBAL autocommit = 1; SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ");
});
afterAll(async () => {
  await session.end();
  await fleet.stop();
  await link.stop();
  await server.stop();
});

function linkedUrl(): string {
  return server.url.replace(String(server.port), String(link.port));
}

async function everythingIsPublished(): Promise<void> {
  const { published, committed } = await publishedAndCommitted(fleet.apiUrl, "crm/CRM_URL", session);
  expect(published).toEqual(committed);
}

test("SQL-7: late commits, savepoints and rollbacks lose and double no row of MariaDB", async () => {
  const long = await connect();
  await long.query("BEGIN");
  await long.query(insertOf(1, freshN()));
  const naive = startNaiveReader(connect);
  const workload = startWorkload({ connect, writers: 12, seed: "mariadb", early });
  await eventually(() => workload.written.size > 600);
  await workload.stop();
  // The long transaction is still open.
  await everythingIsPublished();
  await long.query("COMMIT");
  await everythingIsPublished();
  expect(await publishedInversions(fleet.apiUrl, workload)).toEqual([]);
  const lost = await naive.stop();
  expect(lost.length, "rows that the naive reader has lost").toBeGreaterThan(0);
  await long.end();
});

test("SQL-7: a transaction that only reads does not keep gaps open", async () => {
  const [reading, writing] = [await connect(), await connect()];
  await reading.query("START TRANSACTION WITH CONSISTENT SNAPSHOT");
  await reading.query("SELECT COUNT(*) FROM transactions");
  // More gaps than the reader keeps: one before each row.
  await writing.query("SET SESSION auto_increment_increment = 2");
  const rows = Array.from({ length: 1_100 }, () => insertOf("gaps", freshN()));
  await writing.query(["BEGIN", ...rows, "COMMIT"].join("; "));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:gaps")).length === rows.length);
  await writing.query(insertOf("gaps", freshN()));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:gaps")).length === rows.length + 1);
  await reading.end();
  await writing.end();
});

test("SQL-7: a source that begins at the end publishes a row that was open then, however many rows are newer", async () => {
  await session.query("CREATE TABLE early LIKE transactions");
  const insert = insertOf("early", freshN()).replace("transactions", "early");
  const options = { table: "early", id: "id", columns: ["payload"], name: "test", warn: () => undefined };
  const [first, later] = [await connect(), await connect()];
  await first.query(`BEGIN; ${insert}`);
  await session.query(insert);
  await later.query(`BEGIN; ${insert}`);
  const [into = "", row = ""] = insert.split("VALUES");
  await session.query(`${into} VALUES ${Array.from({ length: 5_000 }, () => row).join(", ")}`);
  const database = await openMysql({ ...options, url: server.url });
  let next = await database.begin("end");
  for (const open of [later, first]) await open.query("COMMIT");
  const found: (string | undefined)[] = [];
  for (let isPart = true; isPart;) {
    const read = await database.readNew(next);
    found.push(read.page);
    ({ next, isPart = false } = read);
  }
  expect(found).toEqual(["1,3"]);
  database.close();
  await Promise.all([first.end(), later.end()]);
});

test("SQL-7: a source that begins at the end of a table with ids below 1 reads its newer rows", async () => {
  await session.query("CREATE TABLE lowest LIKE transactions; ALTER TABLE lowest MODIFY id bigint AUTO_INCREMENT");
  const insert = insertOf("lowest", freshN()).replace("transactions", "lowest");
  await session.query(insert.replace("(account_id", "(id, account_id").replace("VALUES (", "VALUES (-3, "));
  await session.query("SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')");
  await session.query(insert.replace("(account_id", "(id, account_id").replace("VALUES (", "VALUES (0, "));
  await session.query("SET SESSION sql_mode = DEFAULT");
  const options = { table: "lowest", id: "id", columns: ["payload"], name: "test", warn: () => undefined };
  const database = await openMysql({ ...options, url: server.url });
  const cursor = await database.begin("end");
  await session.query(insert);
  expect(await database.readNew(cursor)).toMatchObject({ page: "1" });
  database.close();
});

test("SQL-9: rows that 1,000 gaps hold back are not taken for read", async () => {
  await session.query("CREATE TABLE held LIKE transactions; ALTER TABLE held AUTO_INCREMENT = 3000");
  await session.query(insertOf("held", freshN()).replace("transactions", "held"));
  const options = { table: "held", id: "id", columns: ["payload"], name: "test", warn: () => undefined };
  const database = await openMysql({ ...options, url: server.url });
  const gaps = Array.from({ length: 1_000 }, (_, at) => ({ from: String(2 * at + 1), to: String(2 * at + 1) }));
  const position = (kept: typeof gaps): string => JSON.stringify({ high: "2000", gaps: kept, lists: [] });
  const held = await database.readNew(position(gaps));
  expect([held.page, held.isPart]).toEqual([undefined, true]);
  const read = await database.readNew(position(gaps.slice(1)));
  expect([read.page, read.isPart]).toEqual(["3000", undefined]);
  database.close();
});

test("SQL-7: a crash and restart of MariaDB loses and doubles no row", async () => {
  await writeThroughRestart(server, { connect, early });
  session = await connect();
  const { published, committed } = await publishedAndCommitted(fleet.apiUrl, "crm/CRM_URL", session);
  expect(published).toEqual(committed);
});

test("SQL-7: MariaDB restarts in the middle of a page: the rest of its rows follow, each once", async () => {
  const published = async (): Promise<number> => (await shardStates(fleet.apiUrl)).get("crm/CRM_URL")?.published ?? 0;
  const before = await published();
  const rows = Array.from({ length: 3_000 }, () => insertOf("page", freshN()));
  await session.query(["BEGIN", ...rows].join("; "));
  // In the middle of the first page: the ids of its 2,000 rows take about 20 kB, each 250 rows about 11 kB.
  const stalled = link.stallAfter(60_000);
  await session.query("COMMIT");
  await stalled;
  await eventually(async () => (await published()) > before);
  await server.kill();
  expect((await published()) - before).toBeLessThan(2_000);
  await server.restart();
  link.cut();
  link.set("open");
  session = await connect();
  await everythingIsPublished();
});

test("SQL-16: a table that is emptied while it is read is refused: its ids are given again", async () => {
  await session.query("CREATE TABLE emptied LIKE transactions");
  const options = { table: "emptied", id: "id", columns: ["payload"], name: "test", warn: () => undefined };
  const database = await openMysql({ ...options, url: server.url });
  const insert = insertOf("emptied", freshN()).replace("transactions", "emptied");
  await session.query([insert, insert].join("; "));
  let { next } = await database.readNew(await database.begin("beginning"));
  await session.query(`TRUNCATE emptied; ${insert}`);
  const readAgain = eventually(async () => {
    ({ next } = await database.readNew(next));
    return false;
  });
  await expect(readAgain).rejects.toThrow("rows up to 2 were read, and emptied gives 2 next");
  // So are readers that are far behind: the row is another one.
  await expect(database.readRows(["1", "2"])).rejects.toThrow("rows up to 2 were read");
  database.close();
});

test("SQL-16: an emptied table stays refused once its new ids are above those that were read", async () => {
  await session.query("CREATE TABLE cleared LIKE transactions");
  const insert = insertOf("cleared", freshN()).replace("transactions", "cleared");
  await session.query([insert, insert].join("; "));
  const options = {
    table: "cleared",
    id: "id",
    columns: ["account_id", "payload"],
    name: "test",
    warn: () => undefined,
  };
  const open = async (): Promise<Database> => openMysql({ ...options, url: server.url });
  const rule: SqlSourceRule = {
    ...{ driver: "mysql", url: "env:CRM_URL", table: "cleared", start: "beginning" },
    ...{ channel: "cleared:{account_id}", event: "e", data: "payload" },
  };
  const shard = { name: "crm/CRM_URL", source: "crm", variable: "CRM_URL", rule };
  const stage = newStage();
  onTestFinished(stopShardReaders);
  const reader = await startShardReader(stage, shard, open);
  await eventually(() => stage.published.length === 2);
  await session.query("TRUNCATE cleared");
  await eventually(() => reader.status?.state === "refused");
  await reader.stop();
  await session.query([insert, insert, insert].join("; "));
  const again = await startShardReader(stage, shard, open);
  await eventually(() => again.status !== undefined);
  expect(again.status?.state).toBe("refused");
  expect(again.status?.lastError?.message).toContain("rows up to 2 were read");
  // Another name begins again.
  await startShardReader(stage, { ...shard, name: "renamed/CRM_URL" }, open);
  await eventually(() => stage.published.length === 5);
});

test.each(["(-5)", "(-5), (3)", "(0)", "(-1), (0), (1)"])(
  "SQL-7: a table of MariaDB with the ids %s is read from its end on",
  async (ids) => {
    const zeroes = await connect();
    await zeroes.query(
      `SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; DROP TABLE IF EXISTS signed; CREATE TABLE signed (id bigint AUTO_INCREMENT PRIMARY KEY); INSERT INTO signed VALUES ${ids}`,
    );
    await zeroes.end();
    const options = { table: "signed", id: "id", columns: ["id"], name: "test", warn: () => undefined };
    const database = await openMysql({ ...options, url: server.url });
    onTestFinished(() => database.close());
    const { next } = await database.readNew(await database.begin("end"));
    await session.query("INSERT INTO signed VALUES (7), (-9)");
    expect(await database.readNew(next)).toMatchObject({ page: "7" });
  },
);

test("SQL-4: a page whose column is renamed meanwhile is continued by the corrected rule, each row once", async () => {
  await session.query("CREATE TABLE renaming LIKE transactions");
  const insert = insertOf("renaming", freshN()).replace("transactions", "renaming");
  await session.query([insert, insert, insert].join("; "));
  const rule: SqlSourceRule = {
    ...{ driver: "mysql", url: "env:CRM_URL", table: "renaming", start: "beginning" },
    ...{ channel: "renaming:{account_id}", event: "e", data: "payload" },
  };
  const shard = { name: "crm/CRM_URL", source: "crm", variable: "CRM_URL", rule };
  const open: typeof openDatabase = async (given, options) => openDatabase(given, { ...options, url: server.url });
  const stage = newStage();
  onTestFinished(stopShardReaders);
  // The position and the page are stored, and one row is published.
  stage.failAfter.calls = 4;
  const reader = await startShardReader(stage, shard, open);
  await eventually(() => stage.failAfter.calls < 0);
  await reader.stop();
  expect(stage.published).toHaveLength(1);
  stage.failAfter.calls = Infinity;
  await session.query("ALTER TABLE renaming CHANGE account_id account varchar(191) NOT NULL");
  const refused = await startShardReader(stage, shard, open);
  await eventually(() => refused.status?.state === "refused");
  expect(refused.status?.lastError?.message).toContain("renaming.account_id");
  await refused.stop();
  await startShardReader(stage, { ...shard, rule: { ...rule, channel: "renaming:{account}" } }, open);
  await session.query(insert.replace("account_id", "account"));
  await eventually(async () => {
    const { progress } = await stage.store.read(shard.name);
    return progress !== undefined && parseProgress(progress).published === 4;
  });
  expect(stage.published).toHaveLength(4);
});

test("SQL-8: a MyISAM table, a missing column and a malformed URL are refused, and the error says why", async () => {
  await session.query("CREATE TABLE plain (id bigint AUTO_INCREMENT PRIMARY KEY, payload text) ENGINE = MyISAM");
  const options = {
    url: server.url,
    table: "transactions",
    id: "id",
    columns: ["payload"],
    name: "test",
    warn: () => undefined,
  };
  const refusals: [object, string][] = [
    [{ table: "plain" }, "plain must be an InnoDB table, not MyISAM"],
    [{ columns: ["payload", "nothing"] }, "no such table or column, or no right to read it: transactions.nothing"],
    [{ url: server.url.replace("root@", "root:20%@") }, "write %25 for a %"],
  ];
  for (const [changed, reason] of refusals) {
    await expect(openMysql({ ...options, ...changed })).rejects.toThrow(reason);
  }
});

test("SQL-10: a statement, and a database that does not answer, are given up in time", async () => {
  const proxy = await startTcpProxy(server.port);
  const options = { table: "transactions", id: "id", columns: ["payload"], name: "test", warn: () => undefined };
  const url = server.url.replace(String(server.port), String(proxy.port));
  const locked = { connectMs: 60_000, statementMs: 1_000, queryMs: 60_000 };
  const database = await openMysql({ ...options, url: server.url, timeouts: locked });
  const cursor = await database.begin("end");
  await session.query("LOCK TABLES transactions WRITE");
  await expect(database.readNew(cursor)).rejects.toThrow("max_statement_time exceeded");
  await session.query("UNLOCK TABLES");
  await database.readNew(cursor);
  database.close();
  const stalled = await openMysql({ ...options, url, timeouts: { ...locked, statementMs: 60_000, queryMs: 2_000 } });
  const next = await stalled.begin("end");
  proxy.set("stalled");
  await expect(stalled.readNew(next)).rejects.toThrow("timeout");
  stalled.close();
  await proxy.stop();
});

test("SQL-8: a user without PROCESS is refused, and learns what it needs", async () => {
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("poor/POOR_URL")?.state === "refused");
  expect((await shardStates(fleet.apiUrl)).get("poor/POOR_URL")?.lastError?.message).toContain("privilege PROCESS");
});

test("SQL-8: a server that is read-only, or not the only one that writes, is refused", async () => {
  const namespaces = { default: { changes: true, historySize: 0 } };
  const crm = { ...mapping, url: "env:CRM_URL", channel: "account:{account_id}" };
  async function refusalOf(name: string): Promise<string | undefined> {
    const sqlSources = { [name]: { ...crm, channel: `${name}:{account_id}` } };
    await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources });
    await eventually(async () => (await shardStates(fleet.apiUrl)).get(`${name}/CRM_URL`)?.state === "refused");
    return (await shardStates(fleet.apiUrl)).get(`${name}/CRM_URL`)?.lastError?.message;
  }
  await session.query("SET GLOBAL auto_increment_increment = 2");
  expect(await refusalOf("several")).toContain("auto_increment_increment is 2");
  await session.query("SET GLOBAL auto_increment_increment = 1; SET GLOBAL read_only = 1");
  expect(await refusalOf("replica")).toContain("name the primary");
  await session.query("SET GLOBAL read_only = 0");
  await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources: { crm } });
});

test("SQL-12: the check lists rows that the log of MariaDB has never heard of", async () => {
  await session.query("CREATE TABLE contacts (id bigint PRIMARY KEY, account_id varchar(64), name varchar(64))");
  await session.query(
    `CREATE TRIGGER logged AFTER INSERT ON contacts FOR EACH ROW
       CALL tidegate_log(NEW.account_id, 'contact', NEW.id, 'created', JSON_OBJECT('n', NEW.id))`,
  );
  await session.query("INSERT INTO contacts VALUES (-1, 'kit', 'Ada')");
  const missingTriggers = ["UPDATE", "DELETE"];
  expect(await checkContacts(server.url)).toEqual({ exitCode: 1, bypassed: [], missingTriggers });
  await session.query("DROP TRIGGER logged; INSERT INTO contacts VALUES (-2, 'kit', 'Grace')");
  expect(await checkContacts(server.url)).toMatchObject({ exitCode: 1, bypassed: ["-2"] });
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:kit")).length > 0);
  expect(await publishedIn(fleet.apiUrl, "account:kit")).toEqual([-1]);
});
