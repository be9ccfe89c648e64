/** A table of a real PostgreSQL server becomes publications, through everything that makes a naive reader lose rows. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ColumnMissing } from "../../private-api/sources/contract.ts";
import { openPostgres } from "../../private-api/sources/postgres.ts";
import { changesOf, pullAll } from "../support/change-puller.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type SqlServer, startPostgres } from "../support/postgres.ts";
import { type TcpProxy, startTcpProxy } from "../support/tcp-proxy.ts";
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
  postgresSessions,
  type SqlSession,
  startNaiveReader,
  startWorkload,
  writeThroughRestart,
} from "../support/sql-workload.ts";

const password = "never-in-a-log";
const mapping = { driver: "postgres", table: "transactions", event: "{object_type}.{action}", data: "payload" };
const early = "SELECT pg_current_xact_id()";

let server: SqlServer;
let fleet: Fleet;
let connect: Connect;
let session: SqlSession;
let proxy: TcpProxy;

beforeAll(async () => {
  server = await startPostgres();
  connect = postgresSessions(server.url);
  session = await connect();
  await session.query(await readFile("deploy/sql/postgres.sql", "utf8"));
  await session.query(
    "CREATE TRIGGER tidegate_notify AFTER INSERT ON transactions FOR EACH STATEMENT EXECUTE FUNCTION tidegate_notify('tidegate')",
  );
  await session.query("CREATE TABLE plain (id bigserial PRIMARY KEY, account_id text, payload jsonb)");
  await session.query("CREATE TABLE restored (LIKE transactions INCLUDING ALL)");
  await session.query(
    insertOf(1, freshN()).replace("transactions (", "restored (xid, ").replace("VALUES (", "VALUES ('9000000000', "),
  );
  await session.query("CREATE TABLE nullable (LIKE transactions INCLUDING ALL)");
  await session.query("ALTER TABLE nullable ALTER COLUMN xid DROP NOT NULL");
  await session.query("CREATE ROLE reader LOGIN; GRANT SELECT ON transactions, plain, restored, nullable TO reader");
  await session.query("CREATE DATABASE other");
  proxy = await startTcpProxy(server.port);
  fleet = await startFleet({
    gateways: 0,
    environment: {
      CRM_URL: server.url.replace("tidegate@", `reader:${password}@`),
      FROZEN_URL: server.url.replace(String(server.port), String(proxy.port)),
      AWAY_URL: `postgres://u:${password}@127.0.0.1:1/x`,
    },
    rules: {
      namespaces: { default: { changes: true, historySize: 0 } },
      sqlSources: {
        crm: { ...mapping, url: "env:CRM_URL", channel: "account:{account_id}", notify: "tidegate" },
        plain: { ...mapping, url: "env:CRM_URL", table: "plain", channel: "plain:{account_id}", event: "added" },
        short: {
          ...mapping,
          url: "env:CRM_URL",
          table: "plain",
          channel: "short:{account_id}",
          event: "added",
          withoutXid: "accept",
        },
        restored: { ...mapping, url: "env:CRM_URL", table: "restored", channel: "restored:{account_id}" },
        nullable: { ...mapping, url: "env:CRM_URL", table: "nullable", channel: "nullable:{account_id}" },
        frozen: { ...mapping, url: "env:FROZEN_URL", channel: "frozen:{account_id}" },
        away: { ...mapping, url: ["env:AWAY_URL", "env:UNSET_URL"], channel: "away:{account_id}" },
      },
    },
  });
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("crm/CRM_URL")?.state === "live");
});
afterAll(async () => {
  await session.end();
  await fleet.stop();
  await proxy.stop();
  await server.stop();
});

async function everythingIsPublished(): Promise<void> {
  const { published, committed } = await publishedAndCommitted(fleet.apiUrl, "crm/CRM_URL", session);
  expect(published).toEqual(committed);
}

test("SQL-2: late commits, savepoints and rollbacks lose and double no row of PostgreSQL", async () => {
  const [long, elsewhere] = [await connect(), await postgresSessions(server.url.replace(/postgres$/, "other"))()];
  await elsewhere.query("BEGIN");
  await elsewhere.query(early);
  await long.query("BEGIN");
  await long.query(insertOf(1, freshN()));
  const naive = startNaiveReader(connect);
  const workload = startWorkload({ connect, writers: 12, seed: "postgres", early });
  await eventually(() => workload.written.size > 600);
  await workload.stop();
  // Both long transactions are still open.
  await everythingIsPublished();
  await long.query("COMMIT");
  await everythingIsPublished();
  expect(await publishedInversions(fleet.apiUrl, workload)).toEqual([]);
  const lost = await naive.stop();
  expect(lost.length, "rows that the naive reader has lost").toBeGreaterThan(0);
  await long.end();
  await elsewhere.end();
});

test("SQL-2: a crash and restart of PostgreSQL loses and doubles no row", async () => {
  await writeThroughRestart(server, { connect, early });
  session = await connect();
  const { published, committed } = await publishedAndCommitted(fleet.apiUrl, "crm/CRM_URL", session);
  expect(published).toEqual(committed);
});

test("SQL-5: rows that become visible together come in the order of their ids, however many", async () => {
  // Ids of four and of five digits.
  await session.query("ALTER TABLE transactions ALTER COLUMN id RESTART WITH 9500");
  const first = freshN();
  const rows = Array.from({ length: 999 }, () => freshN());
  await session.query(["BEGIN", insertOf("big", first), ...rows.map((n) => insertOf("big", n)), "COMMIT"].join("; "));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:big")).length >= 1_000);
  expect(await publishedIn(fleet.apiUrl, "account:big")).toEqual([first, ...rows]);
});

test("SQL-6: a row without a valid channel, event or data is skipped, counted and logged", async () => {
  await session.query(insertOf("no channel", freshN()));
  await session.query(insertOf("1", freshN()).replace("'contact'", "'sync:contact'"));
  const large = JSON.stringify("x".repeat(65_536));
  await session.query(insertOf("1", freshN()).replace(/'\{.*\}'/, `'${large}'`));
  const last = freshN();
  await session.query(insertOf("last", last));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:last")).includes(last));
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("crm/CRM_URL")?.skipped === 3);
  expect(fleet.log()).toContain("a row of a SQL source is skipped");
  expect((await fleet.api("GET", "/metrics", undefined)).text).toContain(
    'tidegate_sql_rows_total{source="crm",outcome="skipped"} 3',
  );
});

test("SQL-3: a table without the column of the transaction is refused, and says what to add", async () => {
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("plain/CRM_URL")?.state === "refused");
  const { lastError } = (await shardStates(fleet.apiUrl)).get("plain/CRM_URL") ?? {};
  expect(lastError?.message).toContain("ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()");
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("nullable/CRM_URL")?.state === "refused");
  expect((await shardStates(fleet.apiUrl)).get("nullable/CRM_URL")?.lastError?.message).toContain("NOT NULL");
  // Where the mapping says so it is read by xmin.
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("short/CRM_URL")?.state === "live");
  await session.query(`INSERT INTO plain (account_id, payload) VALUES ('1', '{"n": 7}')`);
  await eventually(async () => (await publishedIn(fleet.apiUrl, "short:1")).length > 0);
  expect(await publishedIn(fleet.apiUrl, "short:1")).toEqual([7]);
  expect(fleet.log()).toContain("rows written inside a savepoint are lost");
});

test("SQL-9: each shard has a state of its own, and no URL is in a log or an answer", async () => {
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("away/AWAY_URL")?.state === "failing");
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("away/UNSET_URL")?.state === "refused");
  const states = await fleet.api("GET", "/v1/sql-sources");
  const rules = await fleet.api("GET", "/v1/rules");
  expect(states.text).toContain("UNSET_URL of the private API is not set");
  expect(rules.text).toContain("env:CRM_URL");
  for (const text of [states.text, rules.text, fleet.log()]) expect(text).not.toContain(password);
});

test("SQL-11: a table with numbers of another server's transactions is refused", async () => {
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("restored/CRM_URL")?.state === "refused");
  const { lastError } = (await shardStates(fleet.apiUrl)).get("restored/CRM_URL") ?? {};
  expect(lastError?.message).toContain("after a restore set them to their default");
});

test("SQL-10: a frozen shard delays no other, and continues once it answers", async () => {
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("frozen/FROZEN_URL")?.state === "live");
  proxy.set("stalled");
  const n = freshN();
  await session.query(insertOf("thaw", n));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:thaw")).includes(n));
  expect(await publishedIn(fleet.apiUrl, "frozen:thaw")).toEqual([]);
  proxy.heal();
  await eventually(async () => (await publishedIn(fleet.apiUrl, "frozen:thaw")).includes(n));
});

test("SQL-10: a statement, and a database that does not answer, are given up in time", async () => {
  const options = { table: "transactions", id: "id", columns: ["payload"], name: "test", warn: () => undefined };
  const url = server.url.replace(String(server.port), String(proxy.port));
  const locked = { connectMs: 60_000, statementMs: 1_000, queryMs: 60_000 };
  const database = await openPostgres({ ...options, url: server.url, timeouts: locked });
  const cursor = await database.begin("end");
  await session.query("BEGIN; LOCK TABLE transactions");
  await expect(database.readNew(cursor)).rejects.toThrow("statement timeout");
  await session.query("COMMIT");
  // The connection is still of use.
  await database.readNew(cursor);
  database.close();
  const stalled = await openPostgres({ ...options, url, timeouts: { ...locked, statementMs: 60_000, queryMs: 2_000 } });
  const next = await stalled.begin("end");
  proxy.set("stalled");
  await expect(stalled.readNew(next)).rejects.toThrow("timeout");
  stalled.close();
  proxy.heal();
});

test.each(["end", "beginning"] as const)(
  "SQL-2: a page is read past rows that were committed after it, from the %s of a table",
  async (start) => {
    const table = `bulk_${start}`;
    await session.query(`CREATE TABLE ${table} (LIKE transactions INCLUDING ALL)`);
    const insert = (rows: number): string =>
      `INSERT INTO ${table} (account_id, object_type, object_id, action, payload)
       SELECT 'bulk', 'contact', n, 'created', '{}' FROM generate_series(1, ${rows}) AS numbers (n)`;
    const options = { url: server.url, table, id: "id", columns: ["payload"], name: "test", warn: () => undefined };
    const database = await openPostgres(options);
    const cursor = await database.begin(start);
    const long = await connect();
    // More than one statement looks at.
    await long.query(`BEGIN; ${insert(11_000)}`);
    await session.query(insert(600));
    const { page = "" } = await database.readNew(cursor);
    await long.query("COMMIT");
    const ids: string[] = [];
    for (let isLast = false; !isLast;) {
      const read = await database.readPage(page, ids.at(-1) ?? "");
      ids.push(...read.rows.map(({ id }) => id));
      ({ isLast } = read);
    }
    expect(ids).toEqual(Array.from({ length: 600 }, (_, n) => String(11_001 + n)));
    database.close();
    await long.end();
  },
);

test("SQL-5: a page with a row far below the others comes in the order of the ids", async () => {
  const long = await connect();
  const first = freshN();
  await long.query("BEGIN");
  await long.query(insertOf("far", first));
  // More than one statement looks at. They are of others, and are skipped.
  await session.query(
    `INSERT INTO transactions (account_id, object_type, object_id, action, payload)
     SELECT 'no channel', 'contact', -n, 'updated', '{}' FROM generate_series(1, 11000) AS numbers (n)`,
  );
  const rows = Array.from({ length: 300 }, () => freshN());
  await long.query([...rows.map((n) => insertOf("far", n)), "COMMIT"].join("; "));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:far")).length > 300);
  expect(await publishedIn(fleet.apiUrl, "account:far")).toEqual([first, ...rows]);
  await session.query("DELETE FROM transactions WHERE account_id = 'no channel'");
  await long.end();
});

test("SQL-10: a reader leaves no slot and no open transaction in PostgreSQL", async () => {
  expect(await session.query("SELECT * FROM pg_replication_slots")).toEqual([]);
  const readers = "SELECT xact_start FROM pg_stat_activity WHERE application_name = 'tidegate crm'";
  // Never for longer than a statement.
  await eventually(async () => {
    const sessions = await session.query(readers);
    return sessions.length > 0 && sessions.every((row) => row["xact_start"] === null);
  });
});

test("SQL-12: the check lists writes that bypassed the log of PostgreSQL", async () => {
  await session.query("CREATE TABLE contacts (id bigint PRIMARY KEY, account_id text, name text)");
  const trigger = "AFTER INSERT OR UPDATE OR DELETE ON contacts FOR EACH ROW EXECUTE FUNCTION";
  await session.query(`CREATE TRIGGER logged ${trigger} tidegate_log_row('contact', 'account_id', 'id')`);
  await session.query("INSERT INTO contacts VALUES (1, 'kit', 'Ada'), (2, 'kit', 'Grace')");
  await session.query("BEGIN; SAVEPOINT s; UPDATE contacts SET name = 'Ada L.' WHERE id = 1; RELEASE s; COMMIT");
  expect(await checkContacts(server.url)).toEqual({ exitCode: 0, bypassed: [], missingTriggers: [] });
  await session.query("ALTER TABLE contacts DISABLE TRIGGER logged");
  await session.query("UPDATE contacts SET name = 'Grace H.' WHERE id = 2");
  const missingTriggers = ["INSERT", "UPDATE", "DELETE"];
  expect(await checkContacts(server.url)).toEqual({ exitCode: 1, bypassed: ["2"], missingTriggers });
  const channel = "account:kit";
  await eventually(async () => (await pullAll([fleet.apiUrl], { channels: channel })).changes.length === 3);
  const { changes } = await pullAll([fleet.apiUrl], { channels: channel });
  expect(changesOf(changes, channel).map(({ event }) => event)).toEqual([
    "contact.created",
    "contact.created",
    "contact.updated",
  ]);
});

test("SQL-4: PostgreSQL reports a dropped column as such, and a begun page continues without it", async () => {
  const options = { url: server.url, table: "transactions", id: "id", name: "test", warn: () => undefined };
  const opening = openPostgres({ ...options, columns: ["payload", "renamed"] });
  await expect(opening).rejects.toThrow(new ColumnMissing("transactions has no column renamed"));
});

test("SQL-4: a changed rule of a running source loses and doubles no row", async () => {
  const written: number[] = [];
  async function write(): Promise<void> {
    const n = freshN();
    await session.query(insertOf("moved", n));
    written.push(n);
  }
  await write();
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:moved")).length === 1);
  const crm = { ...mapping, url: "env:CRM_URL", channel: "account:{account_id}", event: "changed" };
  const namespaces = { default: { changes: true, historySize: 0 } };
  await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources: { crm } });
  // Rows of the reader before, of the one after it, and of the time between.
  await eventually(async () => {
    await write();
    const { changes } = await pullAll([fleet.apiUrl], { channels: "account:moved" });
    return changesOf(changes, "account:moved").some(({ event }) => event === "changed");
  });
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:moved")).length >= written.length);
  expect(await publishedIn(fleet.apiUrl, "account:moved")).toEqual(written);
});

test("SQL-3: a table with a negative id is refused before any row of the page is published", async () => {
  const negative = {
    ...mapping,
    url: "env:CRM_URL",
    table: "negative",
    channel: "negative:{account_id}",
    start: "beginning",
  };
  await session.query("CREATE TABLE negative (LIKE transactions INCLUDING ALL); GRANT SELECT ON negative TO reader");
  const insert = insertOf("1", freshN()).replace("transactions (", "negative (id, ");
  await session.query(insert.replace("VALUES (", "OVERRIDING SYSTEM VALUE VALUES (-1, "));
  await session.query(insert.replace("VALUES (", "OVERRIDING SYSTEM VALUE VALUES (1, "));
  const namespaces = { default: { changes: true, historySize: 0 } };
  await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources: { negative } });
  await eventually(async () => (await shardStates(fleet.apiUrl)).get("negative/CRM_URL")?.state === "refused");
  const { lastError, published } = (await shardStates(fleet.apiUrl)).get("negative/CRM_URL") ?? {};
  expect(lastError?.message).toContain("the id -1 is negative");
  expect(published).toBe(0);
});

test("SQL-1: a source that begins at the beginning publishes what the table has, in order", async () => {
  const copy = { ...mapping, url: "env:CRM_URL", channel: "copy:{account_id}", start: "beginning" };
  const namespaces = { default: { changes: true, historySize: 0 } };
  await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources: { copy } });
  const [{ count } = {}] = await session.query("SELECT count(*) AS count FROM transactions");
  await eventually(async () => {
    const { published = 0, skipped = 0 } = (await shardStates(fleet.apiUrl)).get("copy/CRM_URL") ?? {};
    return published + skipped === Number(count);
  });
  expect(await publishedIn(fleet.apiUrl, "copy:big")).toEqual(await publishedIn(fleet.apiUrl, "account:big"));
  const all = [...(await shardStates(fleet.apiUrl)).keys()];
  expect(all, "the sources that the rules no longer have").toEqual(["copy/CRM_URL"]);
});
