/** A replica of a real MariaDB server takes the place of its primary, behind the address in the source's URL. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type MariaDbPair, startMariaDbPair } from "../support/mariadb.ts";
import { allIsPublished, publishedAndCommitted, publishedIn, shardStates } from "../support/sql-source.ts";
import { freshN, insertOf, mariaDbSessions, type SqlSession, startWorkload } from "../support/sql-workload.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const shard = "crm/CRM_URL";
const mapping = { driver: "mysql", table: "transactions", event: "{object_type}.{action}", data: "payload" };

let pair: MariaDbPair;
/** The address that the reader and the application know. */
let address: TcpProxy;
let fleet: Fleet;
let inPrimary: SqlSession;
let inReplica: SqlSession;

beforeAll(async () => {
  pair = await startMariaDbPair();
  address = await startTcpProxy(pair.primary.port);
  inPrimary = await mariaDbSessions(pair.primary.url)();
  inReplica = await mariaDbSessions(pair.replica.url)();
  await inPrimary.query(await readFile("deploy/sql/mysql.sql", "utf8"));
  await inPrimary.query("CREATE TABLE earlier (id bigint AUTO_INCREMENT PRIMARY KEY)");
  // Without SUPER, which writes to a replica, too.
  await inPrimary.query(
    "CREATE USER app@'%'; GRANT ALL ON crm.* TO app@'%'; CREATE USER tidegate@'%'; GRANT SELECT ON crm.transactions TO tidegate@'%'; GRANT PROCESS ON *.* TO tidegate@'%'",
  );
  fleet = await startFleet({ gateways: 0, environment: { CRM_URL: urlOf("tidegate") } });
});
afterAll(async () => {
  await fleet.stop();
  await inReplica.end();
  await address.stop();
  await pair.stop();
});

function urlOf(user: string): string {
  return `mysql://${user}@127.0.0.1:${address.port}/crm`;
}

/** A changed rule begins a new reader at once. */
async function putSource(more: object): Promise<void> {
  const crm = { ...mapping, url: "env:CRM_URL", channel: "account:{account_id}", ...more };
  const namespaces = { default: { changes: true, historySize: 0 } };
  const answer = await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources: { crm } });
  expect(answer.status, answer.text).toBe(200);
}

async function refusal(): Promise<string> {
  const { state, lastError } = (await shardStates(fleet.apiUrl)).get(shard) ?? {};
  return state === "refused" ? (lastError?.message ?? "") : "";
}

test("SQL-16: a replica that lacks rows that were read is refused, also with failover: continue", async () => {
  await putSource({ start: "beginning" });
  await inPrimary.query(insertOf("lost", freshN()));
  await allIsPublished(fleet.apiUrl, shard, inPrimary);
  await eventually(async () => (await inReplica.query("SELECT id FROM transactions")).length === 1);
  await pair.follow(false);
  await inPrimary.query(insertOf("lost", freshN()));
  await allIsPublished(fleet.apiUrl, shard, inPrimary);
  address.redirect(pair.replica.port);
  address.cut();
  await eventually(async () => (await refusal()).includes("read-only"));
  await inReplica.query("SET GLOBAL read_only = 0");
  await putSource({ failover: "continue" });
  await eventually(async () => (await refusal()).includes("rows up to 2 were read, and transactions gives 2 next"));
  // The primary was only out of reach: it is read on.
  await inReplica.query("SET GLOBAL read_only = 1");
  await pair.follow(true);
  address.redirect(pair.primary.port);
  address.cut();
  await putSource({});
  await inPrimary.query(insertOf("lost", freshN()));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:lost")).length === 3);
});

test("SQL-16: a promoted replica is refused until the rule says to continue: no row is lost or doubled", async () => {
  await pair.replicateBeforeCommit();
  const connect = mariaDbSessions(urlOf("app"));
  const workload = startWorkload({ connect, writers: 6, seed: "failover", early: "INSERT INTO earlier VALUES ()" });
  await eventually(() => workload.written.size > 100);
  await pair.primary.kill();
  await pair.promote();
  address.redirect(pair.replica.port);
  await eventually(async () => (await refusal()).includes("has failed over, and may have lost transactions"));
  await eventually(async () => (await metrics()).includes('tidegate_sql_shards{source="crm",state="refused"} 1'));
  const before = workload.written.size;
  await putSource({ failover: "continue" });
  await eventually(() => workload.written.size > before + 100);
  await workload.stop();
  const { published, committed } = await publishedAndCommitted(fleet.apiUrl, shard, inReplica);
  expect(published).toEqual(committed);
});

async function metrics(): Promise<string> {
  return (await fetch(`${fleet.apiUrl}/metrics`)).text();
}
