import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lifecycle } from "../../shared/runtime/lifecycle.ts";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import { RedisNodeRegistry } from "../../shared/nodes/redis.ts";
import { reportLastsMs } from "../../shared/nodes/contract.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startValkey } from "../support/valkey.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { nodeRegistrySuite, type RegistryUnderTest } from "./node-registry-suite.ts";

let redis: RedisServer;
let valkey: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
beforeAll(async () => {
  [redis, valkey, cluster] = await Promise.all([startRedis(), startValkey(), startRedisCluster()]);
});
afterAll(async () => {
  await Promise.all([redis.stop(), valkey.stop(), cluster.stop()]);
});

async function onRedis(target: RedisTarget): Promise<RegistryUnderTest & { forgetNothing(): Promise<void> }> {
  const all = new Lifecycle(quietLogger);
  const [one, two] = [1, 2].map(() => new RedisConnections({ target, errors: quietErrors, logger: quietLogger }));
  if (!one || !two) throw new Error("two connections");
  all.add("one", one);
  all.add("two", two);
  const registries = [new RedisNodeRegistry(new Cells(one)), new RedisNodeRegistry(new Cells(two))] as const;
  return {
    registries,
    start: () => all.start(),
    stop: () => all.stop(),
    forgetNothing: async () => {
      await one.run("hset", "tidegate:{nodes}:fleet", "settled", "0");
    },
  };
}

/** An empty registry that is old enough to know that it is empty. */
async function empty(target: RedisTarget): ReturnType<typeof onRedis> {
  const opened = await onRedis(target);
  return {
    ...opened,
    start: async () => {
      await opened.start();
      const [registry] = opened.registries;
      for (const { instance } of await registry.nodes()) await registry.leave(instance);
      const first = nodeReport();
      await registry.report(first, { budgetPerSecond: 1, heldPerSecond: 0 });
      await registry.leave(first.instance);
      await opened.forgetNothing();
    },
  };
}

nodeRegistrySuite("memory", async () => {
  const registry = new MemoryNodeRegistry();
  return { registries: [registry, registry], start: async () => undefined, stop: async () => undefined };
});
nodeRegistrySuite("Redis", () => empty({ kind: "standalone", url: redis.url }));
nodeRegistrySuite("a Redis Cluster", () => empty(cluster.target));
nodeRegistrySuite("Valkey", () => empty({ kind: "standalone", url: valkey.url }));

test.concurrent("NODE-3: a node without a report for 5 s is gone, with its share and its order to drain", async () => {
  const opened = await empty({ kind: "standalone", url: redis.url });
  await opened.start();
  const [one, two] = opened.registries;
  const dead = nodeReport({ node: "dead" });
  const alive = nodeReport({ node: "alive" });
  const request = { budgetPerSecond: 100, heldPerSecond: 0 };
  // Before its report: the five seconds begin once that has arrived.
  const began = performance.now();
  expect((await one.report(dead, request)).sharePerSecond).toBe(90);
  await one.order("dead", "drain");
  let held = 0;
  await eventually(async () => {
    const answer = await two.report(alive, { ...request, heldPerSecond: held });
    held = answer.sharePerSecond;
    if (answer.nodes.length > 1) expect(held).toBeLessThanOrEqual(5);
    return answer.nodes.length === 1 && held === 90;
  }, reportLastsMs + 5_000);
  expect(performance.now() - began).toBeGreaterThanOrEqual(reportLastsMs - 100);
  expect((await two.nodes()).map(({ node }) => node)).toEqual(["alive"]);
  expect(await one.order("dead", "drain")).toBe(0);
  expect((await one.report(dead, request)).order).toBe(undefined);
  await opened.stop();
});

test.concurrent(
  "NODE-5: a registry without memory raises no share for 5 s; new nodes get part of a reserve",
  async () => {
    const ofItsOwn = await startRedis();
    const opened = await empty({ kind: "standalone", url: ofItsOwn.url });
    await opened.start();
    const [registry] = opened.registries;
    const old = nodeReport({ node: "old" });
    const young = nodeReport({ node: "young" });
    expect((await registry.report(old, { budgetPerSecond: 100, heldPerSecond: 0 })).sharePerSecond).toBe(90);
    await ofItsOwn.kill();
    await ofItsOwn.restart();
    let held = 0;
    await eventually(async () => {
      const answer = await registry.report(young, { budgetPerSecond: 100, heldPerSecond: held }).catch(() => undefined);
      held = answer?.sharePerSecond ?? 0;
      return answer !== undefined;
    });
    expect(held).toBe(2.5);
    expect((await registry.report(old, { budgetPerSecond: 100, heldPerSecond: 45 })).sharePerSecond).toBe(45);
    expect((await registry.report(young, { budgetPerSecond: 100, heldPerSecond: held })).sharePerSecond).toBe(2.5);
    const another = nodeReport({ node: "another" });
    expect((await registry.report(another, { budgetPerSecond: 100, heldPerSecond: 0 })).sharePerSecond).toBe(1.25);
    await registry.leave(another.instance);
    await eventually(async () => {
      await registry.report(old, { budgetPerSecond: 100, heldPerSecond: 45 });
      held = (await registry.report(young, { budgetPerSecond: 100, heldPerSecond: held })).sharePerSecond;
      return held === 45;
    }, reportLastsMs + 5_000);
    await opened.stop();
    await ofItsOwn.stop();
  },
);

test("NODE-3: the list of nodes omits nodes that are gone, even when no node reports", async () => {
  const opened = await empty({ kind: "standalone", url: redis.url });
  await opened.start();
  const [registry] = opened.registries;
  const last = nodeReport();
  await registry.report(last, { budgetPerSecond: 100, heldPerSecond: 0 });
  expect(await registry.nodes()).toHaveLength(1);
  const client = new Redis(redis.url);
  const [inForce, share, weight, heard] = ((await client.hget("tidegate:{nodes}:shares", last.instance)) ?? "").split(
    " ",
  );
  const before = Number(heard) - reportLastsMs - 1_000;
  await client.hset("tidegate:{nodes}:shares", last.instance, `${inForce} ${share} ${weight} ${before} ready`);
  await client.zadd("tidegate:{nodes}:heard", before, last.instance);
  expect(await registry.nodes()).toEqual([]);
  expect(await registry.order(last.node, "drain")).toBe(0);
  await registry.leave(last.instance);
  client.disconnect();
  await opened.stop();
});

test("NODE-3: a node that was gone rejoins as a new one, and its share is not freed twice", async () => {
  const opened = await empty({ kind: "standalone", url: redis.url });
  await opened.start();
  const [registry] = opened.registries;
  const [paused, other] = [nodeReport({ node: "paused" }), nodeReport({ node: "other" })];
  const budgetPerSecond = 100;
  await registry.report(paused, { budgetPerSecond, heldPerSecond: undefined });
  await registry.report(other, { budgetPerSecond, heldPerSecond: 0 });
  await registry.report(paused, { budgetPerSecond, heldPerSecond: 45 });
  expect((await registry.report(other, { budgetPerSecond, heldPerSecond: 45 })).sharePerSecond).toBe(45);
  const client = new Redis(redis.url);
  await client.zincrby("tidegate:{nodes}:heard", -reportLastsMs - 1_000, paused.instance);
  const answers: number[] = [];
  for (const report of [paused, other, paused, other]) {
    answers.push((await registry.report(report, { budgetPerSecond, heldPerSecond: 45 })).sharePerSecond);
  }
  expect(answers).toEqual([45, 45, 45, 45]);
  client.disconnect();
  await opened.stop();
});

test("NODE-5: after the clock was set back no share rises for 5 s; then dead nodes are gone", async () => {
  const opened = await empty({ kind: "standalone", url: redis.url });
  await opened.start();
  const [registry] = opened.registries;
  const [alive, dead] = [nodeReport({ node: "alive" }), nodeReport({ node: "dead" })];
  const budgetPerSecond = 100;
  await registry.report(dead, { budgetPerSecond, heldPerSecond: undefined });
  await registry.report(alive, { budgetPerSecond, heldPerSecond: 0 });
  await registry.report(dead, { budgetPerSecond, heldPerSecond: 45 });
  expect((await registry.report(alive, { budgetPerSecond, heldPerSecond: 45 })).sharePerSecond).toBe(45);
  const client = new Redis(redis.url);
  // All reports are dated an hour in the future.
  const hourMs = 3_600_000;
  for (const { instance } of [alive, dead]) {
    await client.zincrby("tidegate:{nodes}:heard", hourMs, instance);
    const [inForce, share, weight, heard, state] = (
      (await client.hget("tidegate:{nodes}:shares", instance)) ?? ""
    ).split(" ");
    const later = [inForce, share, weight, Number(heard) + hourMs, state].join(" ");
    await client.hset("tidegate:{nodes}:shares", instance, later);
  }
  await client.hincrby("tidegate:{nodes}:fleet", "heard", hourMs);
  expect((await registry.report(alive, { budgetPerSecond, heldPerSecond: 45 })).sharePerSecond).toBe(45);
  await opened.forgetNothing();
  const answer = await registry.report(alive, { budgetPerSecond, heldPerSecond: 45 });
  expect(answer).toMatchObject({ sharePerSecond: 90, nodes: [{ node: "alive" }] });
  client.disconnect();
  await opened.stop();
});

test("NODE-5: the first node gets its share at once; it returns it if others hold shares", async () => {
  const ofItsOwn = await startRedis();
  const opened = await onRedis({ kind: "standalone", url: ofItsOwn.url });
  await opened.start();
  const [registry] = opened.registries;
  const first = nodeReport({ node: "first" });
  expect((await registry.report(first, { budgetPerSecond: 100, heldPerSecond: undefined })).sharePerSecond).toBe(90);
  await ofItsOwn.kill();
  await ofItsOwn.restart();
  const begins = nodeReport({ node: "begins" });
  await eventually(async () => {
    const answer = registry.report(begins, { budgetPerSecond: 100, heldPerSecond: undefined });
    return (await answer.catch(() => undefined))?.sharePerSecond === 90;
  });
  expect((await registry.report(first, { budgetPerSecond: 100, heldPerSecond: 90 })).sharePerSecond).toBe(45);
  expect((await registry.report(begins, { budgetPerSecond: 100, heldPerSecond: 90 })).sharePerSecond).toBe(45);
  await opened.stop();
  await ofItsOwn.stop();
});

test("NODE-1: in a large fleet, joins and changes of state reach every node with its next report", async () => {
  const opened = await empty({ kind: "standalone", url: redis.url });
  await opened.start();
  const [registry, asked] = opened.registries;
  const request = { budgetPerSecond: 100, heldPerSecond: 0 };
  const reports = Array.from({ length: 100 }, (_, n) => nodeReport({ node: `node-${String(n).padStart(3, "0")}` }));
  for (const report of reports) await registry.report(report, request);
  const [first = nodeReport(), second = nodeReport()] = reports;
  await asked.report(first, request);
  await registry.report({ ...second, connections: 7 }, request);
  const early = (await asked.report(first, request)).nodes;
  expect(early).toHaveLength(100);
  await registry.report({ ...second, connections: 8, state: "draining" }, request);
  const told = (await asked.report(first, request)).nodes;
  expect(told[1]).toMatchObject({ node: "node-001", connections: 8, state: "draining" });
  await registry.report(nodeReport({ node: "node-100" }), request);
  expect((await asked.report(first, request)).nodes).toHaveLength(101);
  await registry.leave(second.instance);
  expect((await asked.report(first, request)).nodes).toHaveLength(100);
  for (const { instance } of reports) await registry.leave(instance);
  expect((await asked.report(first, request)).nodes.map(({ node }) => node)).toEqual(["node-000", "node-100"]);
  await opened.stop();
});

test("NODE-1: reports in the format of another version are skipped", async () => {
  const opened = await empty({ kind: "standalone", url: redis.url });
  await opened.start();
  const [registry] = opened.registries;
  await registry.report(nodeReport({ node: "one" }), { budgetPerSecond: 100, heldPerSecond: 0 });
  const client = new Redis(redis.url);
  for (const text of ["[]", "{", '["two","ready"]', "[1]"]) {
    await client.hset("tidegate:{nodes}:reports", "other", text);
    await client.hset("tidegate:{nodes}:shares", "other", "0 0 0 9999999999999 ready");
    expect((await registry.nodes()).map(({ node }) => node)).toEqual(["one"]);
  }
  await client.hdel("tidegate:{nodes}:reports", "other");
  await client.hdel("tidegate:{nodes}:shares", "other");
  client.disconnect();
  await opened.stop();
});
