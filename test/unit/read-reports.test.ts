/** The answers about SQL sources and bridges, whose readers report from other processes and are stored in several cells. */
import Fastify from "fastify";
import { expect, test } from "vitest";
import { addListBridges } from "../../private-api/routes/list-bridges.ts";
import { addListSqlSources } from "../../private-api/routes/list-sql-sources.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import type { BridgeRule } from "../../shared/rules/bridges.ts";
import { Rules } from "../../shared/rules/rules.ts";
import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import { MemorySqlShardStore } from "../../shared/sql-sources/memory.ts";

test("SQL-9: progress that a newer version has stored is an error of its shard alone", async () => {
  const crm: SqlSourceRule = {
    ...{ driver: "postgres", url: ["env:NEWER", "env:KNOWN"], table: "log" },
    ...{ channel: "account:{account}", event: "{kind}", data: "d" },
  };
  const known = { identity: "db", timeline: "1", cursor: "", published: 7, skipped: 1 };
  const sqlShards = new MemorySqlShardStore();
  for (const lease of await sqlShards.takeLeases(["crm/NEWER", "crm/KNOWN"], "reader")) {
    const progress = lease.shard === "crm/NEWER" ? { ...known, later: true } : known;
    const status = { state: "live", lagMs: 0, at: Date.now() };
    await sqlShards.save(lease, { progress: JSON.stringify(progress), status: JSON.stringify(status) });
  }
  const app = Fastify();
  addListSqlSources(app, { currentRules: { rules: new Rules(1, { sqlSources: { crm } }) }, sqlShards });
  const answer = await app.inject("/v1/sql-sources");
  expect(answer.statusCode, answer.body).toBe(200);
  const common = { state: "live", lag: { ms: 0 } };
  const message = expect.stringContaining("was it written by a newer version?") as string;
  expect(answer.json()).toMatchObject({
    sources: [
      {
        name: "crm",
        shards: [
          { ...common, shard: "NEWER", published: 0, skipped: 0, lastError: { message } },
          { ...common, shard: "KNOWN", published: 7, skipped: 1 },
        ],
      },
    ],
  });
  await app.close();
});

test("SQL-9: a shard that nobody has read for an hour lags, also once a reader has its lease", async () => {
  const crm: SqlSourceRule = {
    ...{ driver: "postgres", url: "env:URL", table: "log" },
    ...{ channel: "account:{account}", event: "{kind}", data: "d" },
  };
  const hourMs = 3_600_000;
  const sqlShards = new MemorySqlShardStore();
  const [before] = await sqlShards.takeLeases(["crm/URL"], "before");
  if (!before) throw new Error("no lease");
  const status = { state: "live", lagMs: 0, at: Date.now() - hourMs };
  await sqlShards.save(before, { status: JSON.stringify(status) });
  await sqlShards.releaseLeases([before]);
  // Its first read has not ended yet.
  const [after] = await sqlShards.takeLeases(["crm/URL"], "after");
  if (!after) throw new Error("no lease");
  const app = Fastify();
  addListSqlSources(app, { currentRules: { rules: new Rules(1, { sqlSources: { crm } }) }, sqlShards });
  const shard = async () => {
    const answer = await app.inject("/v1/sql-sources");
    return answer.json<{ sources: { shards: { state: string; lag: { ms: number } }[] }[] }>().sources[0]?.shards[0];
  };
  const unread = await shard();
  expect(unread?.state).toBe("unread");
  expect(unread?.lag.ms).toBeGreaterThanOrEqual(hourMs);
  await sqlShards.save(after, { status: JSON.stringify({ ...status, at: Date.now() }) });
  expect(await shard()).toMatchObject({ state: "live", lag: { ms: 0 } });
  await app.close();
});

/** The cell of everything that is named so is away. */
const sqlShards = {
  read: async (name: string) => {
    if (name.includes("away")) throw brokerUnavailable("the message store cannot be reached");
    return { status: JSON.stringify({ state: "live", lagMs: 0, at: Date.now() }), isRead: true };
  },
};
const unread = { state: "unread", lastError: { message: "the message store cannot be reached" } };

test("CELL-5: a cell that is away hides no SQL source at another cell", async () => {
  const source = (url: string): SqlSourceRule => ({
    ...{ driver: "postgres", url, table: "log", channel: "account:{account}", event: "{kind}", data: "d" },
  });
  const rules = new Rules(1, { sqlSources: { away: source("env:CRM_URL"), here: source("env:CRM_URL") } });
  const app = Fastify();
  addListSqlSources(app, { currentRules: { rules }, sqlShards });
  const answer = await app.inject("/v1/sql-sources");
  expect(answer.statusCode, answer.body).toBe(200);
  expect(answer.json()).toMatchObject({ sources: [{ shards: [unread] }, { shards: [{ state: "live" }] }] });
  await app.close();
});

test("CELL-5: a cell that is away hides no bridge at another cell", async () => {
  const bridge = (name: string): BridgeRule => ({
    ...{ redis: "env:LEGACY", adapter: "classic", direction: "in", rooms: { [`${name}-{id}`]: `${name}:{id}` } },
  });
  const rules = new Rules(1, { bridges: { away: bridge("away"), here: bridge("here") } });
  const app = Fastify();
  addListBridges(app, { currentRules: { rules }, sqlShards });
  const answer = await app.inject("/v1/bridges");
  expect(answer.statusCode, answer.body).toBe(200);
  expect(answer.json()).toMatchObject({ bridges: [unread, { state: "live" }] });
  await app.close();
});
