/** Private APIs that read SQL sources are frozen and killed while rows are written. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { tokens } from "../support/fleet.ts";
import { startMariaDb } from "../support/mariadb.ts";
import { type SqlServer, startPostgres } from "../support/postgres.ts";
import { type PrivateApiProcess, spawnPrivateApi } from "../support/private-api-process.ts";
import { type Spawned } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { allIsPublished, ascending, committedIn, publishedIn, publishedInAll } from "../support/sql-source.ts";
import {
  accounts,
  inversions,
  mariaDbSessions,
  postgresSessions,
  type SqlSession,
  startWorkload,
} from "../support/sql-workload.ts";

const mapping = { table: "transactions", event: "{object_type}.{action}", data: "payload" };
const rules = {
  namespaces: { default: { changes: true, historySize: 0 } },
  sqlSources: {
    pg: {
      ...mapping,
      ...{ driver: "postgres", url: "env:POSTGRES_URL", channel: "pg:{account_id}", start: "beginning" },
    },
    maria: {
      ...mapping,
      ...{ driver: "mysql", url: "env:MARIA_URL", channel: "maria:{account_id}", start: "beginning" },
    },
  },
};

let redis: RedisServer;
let postgres: SqlServer;
let maria: SqlServer;
let inPostgres: SqlSession;
let inMaria: SqlSession;
const processes: Spawned[] = [];

beforeAll(async () => {
  [redis, postgres, maria] = await Promise.all([startRedis(), startPostgres(), startMariaDb()]);
  inPostgres = await postgresSessions(postgres.url)();
  inMaria = await mariaDbSessions(maria.url)();
  await inPostgres.query(await readFile("deploy/sql/postgres.sql", "utf8"));
  await inMaria.query(await readFile("deploy/sql/mysql.sql", "utf8"));
  await inMaria.query("CREATE TABLE earlier (id bigint AUTO_INCREMENT PRIMARY KEY)");
});
afterAll(async () => {
  for (const process of processes) process.kill("SIGKILL");
  await Promise.all([inPostgres.end(), inMaria.end()]);
  await Promise.all([redis.stop(), postgres.stop(), maria.stop()]);
});

async function startProcess(): Promise<PrivateApiProcess> {
  return spawnPrivateApi(
    {
      REDIS_URL: redis.url,
      POSTGRES_URL: postgres.url,
      MARIA_URL: maria.url,
    },
    processes,
  );
}

/** Shards that the process reads. */
async function shardsOf(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return [...metrics.matchAll(/^tidegate_sql_shards\{.*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}

test("SQL-4: a frozen reader and a killed one lose and double no row of either database", async () => {
  const [first, second] = [await startProcess(), await startProcess()];
  const answer = await fetch(`${first.url}/v1/rules`, {
    method: "PUT",
    headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
    body: JSON.stringify(rules),
  });
  expect(answer.status).toBe(200);
  const workloads = {
    pg: startWorkload({
      connect: postgresSessions(postgres.url),
      writers: 3,
      seed: "pg",
      early: "SELECT pg_current_xact_id()",
    }),
    maria: startWorkload({
      connect: mariaDbSessions(maria.url),
      writers: 3,
      seed: "maria",
      early: "INSERT INTO earlier VALUES ()",
    }),
  };
  const sessions = { pg: inPostgres, maria: inMaria };
  const sources = ["pg", "maria"] as const;
  async function everythingIsPublished(url: string): Promise<void> {
    await allIsPublished(url, "pg/POSTGRES_URL", inPostgres);
    await allIsPublished(url, "maria/MARIA_URL", inMaria);
  }
  await everythingIsPublished(first.url);
  await eventually(async () => (await shardsOf(first.url)) === 1 && (await shardsOf(second.url)) === 1);
  first.process.kill("SIGSTOP");
  second.process.kill("SIGKILL");
  const third = await startProcess();
  await everythingIsPublished(third.url);
  // It continues where it was stopped, under leases that have ended.
  first.process.kill("SIGCONT");
  await eventually(async () => (await shardsOf(first.url)) + (await shardsOf(third.url)) === 2);
  for (const source of sources) await workloads[source].stop();
  await everythingIsPublished(third.url);
  for (const source of sources) {
    const published = await publishedInAll(third.url, source);
    expect(new Set(published).size, "each once").toBe(published.length);
    const all = await committedIn(sessions[source]);
    expect(ascending(published)).toEqual(ascending(all));
    for (let account = 1; account <= accounts; account++) {
      expect(inversions(await publishedIn(third.url, `${source}:${account}`), workloads[source].written)).toEqual([]);
    }
  }
});
