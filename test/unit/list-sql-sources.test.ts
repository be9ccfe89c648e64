/** The answer about SQL sources while private APIs of two versions run. */
import Fastify from "fastify";
import { expect, test } from "vitest";
import { addListSqlSources } from "../../private-api/routes/list-sql-sources.ts";
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
