/** One suite over every store of the progress of SQL sources. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import type { SqlShardStore } from "../../shared/sql-sources/contract.ts";
import { MemorySqlShardStore } from "../../shared/sql-sources/memory.ts";
import { RedisSqlShardStore } from "../../shared/sql-sources/redis.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

/** Of stores under test, but for those that expect the end of a lease. */
const leaseMs = 60_000;
const shortLeaseMs = 300;
let redis: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
const opened: RedisConnections[] = [];

beforeAll(async () => {
  [redis, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(async () => {
  await Promise.all(opened.map((connections) => connections.stop()));
  await Promise.all([redis.stop(), cluster.stop()]);
});

async function storeOn(target: RedisTarget, lease: { leaseMs: number }): Promise<SqlShardStore> {
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  opened.push(connections);
  return new RedisSqlShardStore(new Cells(connections), lease);
}

const stores: Record<string, (lease: { leaseMs: number }) => Promise<SqlShardStore>> = {
  memory: async (lease) => new MemorySqlShardStore(lease),
  Redis: async (lease) => storeOn({ kind: "standalone", url: redis.url }, lease),
  "Redis Cluster": async (lease) => storeOn(cluster.target, lease),
};

describe.each(Object.entries(stores))("store of SQL shards: %s", (_name, create) => {
  test("SQL-4: one holder has the lease on a shard, and what it saves replaces members", async () => {
    const store = await create({ leaseMs });
    const shards = [`crm/${randomUUID()}`, `crm/${randomUUID()}`];
    const [lease, other] = await store.takeLeases(shards, "one");
    expect([lease?.shard, other?.shard]).toEqual(shards);
    expect(await store.takeLeases(shards, "two")).toEqual([]);
    if (!lease) throw new Error("the lease was not taken");
    expect(await store.save(lease, { progress: "p1", status: "s1" })).toBe(true);
    expect(await store.save(lease, { progress: "p2" })).toBe(true);
    expect(await store.read(lease.shard)).toEqual({ progress: "p2", status: "s1", isRead: true });
    expect(await store.read("crm/none")).toEqual({ isRead: false });
    expect(await store.extendLeases([lease])).toEqual([true]);
  });

  test("SQL-4: a lease that has ended saves nothing, and the next one has a higher fence", async () => {
    const store = await create({ leaseMs: shortLeaseMs });
    const shard = `crm/${randomUUID()}`;
    const [stale] = await store.takeLeases([shard], "one");
    if (!stale) throw new Error("the lease was not taken");
    await eventually(async () => !(await store.read(shard)).isRead);
    expect(await store.extendLeases([stale])).toEqual([false]);
    const [next] = await store.takeLeases([shard], "two");
    if (!next) throw new Error("the lease was not taken");
    expect(next.fence).toBeGreaterThan(stale.fence);
    expect(await store.save(stale, { progress: "stale" })).toBe(false);
    await store.releaseLeases([next]);
    expect(await store.read(shard)).toEqual({ isRead: false });
  });
});
