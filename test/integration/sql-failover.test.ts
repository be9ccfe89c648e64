/** A replica of a real PostgreSQL server takes the place of its primary. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { publishedIn, shardStates } from "../support/sql-source.ts";
import { insertOf, postgresSessions, type SqlSession } from "../support/sql-workload.ts";

let server: PostgresServer;
let fleet: Fleet;
let session: SqlSession;

beforeAll(async () => {
  server = await startPostgres();
  session = await postgresSessions(server.url)();
  await session.query(await readFile("deploy/sql/postgres.sql", "utf8"));
  fleet = await startFleet({ gateways: 0, environment: { CRM_URL: server.url } });
});
afterAll(async () => {
  await session.end();
  await fleet.stop();
  await server.stop();
});

const mapping = { driver: "postgres", table: "transactions", event: "{object_type}.{action}", data: "payload" };

/** A changed rule begins a new reader at once. */
async function putSource(more: object): Promise<void> {
  const crm = { ...mapping, url: "env:CRM_URL", channel: "account:{account_id}", ...more };
  const namespaces = { default: { changes: true, historySize: 0 } };
  const answer = await fleet.api("PUT", "/v1/rules", { namespaces, sqlSources: { crm } });
  expect(answer.status, answer.text).toBe(200);
}

async function refusal(): Promise<string> {
  const { state, lastError } = (await shardStates(fleet.apiUrl)).get("crm/CRM_URL") ?? {};
  return state === "refused" ? (lastError?.message ?? "") : "";
}

test("SQL-11: a replica, and the primary that it becomes, are refused until the rule says to continue", async () => {
  await putSource({ start: "beginning" });
  await session.query(insertOf("1", 1));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:1")).length === 1);
  await server.failOver();
  await eventually(async () => (await refusal()).includes("is a replica in recovery"));
  session = await postgresSessions(server.url)();
  await session.query("SELECT pg_promote()");
  await session.query(insertOf("1", 2));
  await putSource({});
  await eventually(async () => (await refusal()).includes("has failed over, and may have lost transactions"));
  expect(await publishedIn(fleet.apiUrl, "account:1")).toEqual([1]);
  await putSource({ failover: "continue" });
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:1")).length >= 2);
  await session.query(insertOf("1", 3));
  await eventually(async () => (await publishedIn(fleet.apiUrl, "account:1")).length >= 3);
  expect(await publishedIn(fleet.apiUrl, "account:1")).toEqual([1, 2, 3]);
});
