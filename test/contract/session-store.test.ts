import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { createStores } from "../../shared/program/stores.ts";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import { Lifecycle } from "../../shared/runtime/lifecycle.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { MemorySessionStore } from "../../shared/sessions/memory.ts";
import { RedisSessionStore } from "../../shared/sessions/redis.ts";
import { graceMs, type SessionEventStore, type SessionStore } from "../../shared/sessions/contract.ts";
import { eventually } from "../support/eventually.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startValkey } from "../support/valkey.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { sessionStoreSuite, type StoresUnderTest } from "./session-store-suite.ts";

let redis: RedisServer;
let valkey: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
let twoCells: TwoCells;
beforeAll(async () => {
  [redis, valkey, cluster, twoCells] = await Promise.all([
    startRedis(),
    startValkey(),
    startRedisCluster(),
    startTwoCells("100-255"),
  ]);
});
afterAll(async () => {
  await Promise.all([redis.stop(), valkey.stop(), cluster.stop(), twoCells.stop()]);
});

function together(broker: ChannelBroker, stores: StoresUnderTest["stores"], all: Lifecycle): StoresUnderTest {
  all.add("broker", broker);
  for (const store of new Set<SessionStore & SessionEventStore>(stores)) all.add("store", store);
  return { broker, stores, start: () => all.start(), stop: () => all.stop() };
}

function inMemory(): StoresUnderTest {
  const broker = new MemoryBroker(quietErrors);
  const store = new MemorySessionStore(broker, quietErrors);
  return together(broker, [store, store], new Lifecycle(quietLogger));
}

function onRedis(target: RedisTarget): StoresUnderTest {
  const all = new Lifecycle(quietLogger);
  const [one, two] = [1, 2].map(() => new RedisConnections({ target, errors: quietErrors, logger: quietLogger }));
  if (!one || !two) throw new Error("two connections");
  all.add("one", one);
  all.add("two", two);
  const broker = new RedisBroker({ cells: new Cells(one), logger: quietLogger });
  return together(broker, [new RedisSessionStore(new Cells(one)), new RedisSessionStore(new Cells(two))], all);
}

function onMovingCells(): StoresUnderTest {
  const [one, two] = [1, 2].map(() => createStores(twoCells.targets, quietLogger));
  if (!one || !two) throw new Error("two processes");
  let stopMoving: (() => Promise<void>) | undefined;
  return {
    broker: one.broker,
    stores: [one.sessionStore, two.sessionStore],
    start: async () => {
      await one.start();
      await two.start();
      stopMoving = await twoCells.keepMoving();
    },
    stop: async () => {
      await stopMoving?.();
      await two.stop();
      await one.stop();
    },
  };
}

sessionStoreSuite("memory", inMemory);
sessionStoreSuite("Redis", () => onRedis({ kind: "standalone", url: redis.url }));
sessionStoreSuite("a Redis Cluster", () => onRedis(cluster.target));
sessionStoreSuite("Valkey", () => onRedis({ kind: "standalone", url: valkey.url }));
sessionStoreSuite("two cells, while slots move", onMovingCells);

test.each([3_600_000, -3_600_000])("GRANT-2: a node's own clock that steps %i ms dates no grant", async (stepMs) => {
  const opened = onRedis({ kind: "standalone", url: redis.url });
  await opened.start();
  onTestFinished(() => opened.stop());
  const [store] = opened.stores;
  await store.renewLease("of a node whose clock steps", { fresh: true });
  const before = store.now();
  vi.useFakeTimers({ toFake: ["Date"] });
  onTestFinished(() => void vi.useRealTimers());
  vi.setSystemTime(Date.now() + stepMs);
  expect(Math.abs(store.now() - before)).toBeLessThan(600_000);
});

test("TEN-2: the sweep of a lost node removes the entries of each user, and no others", async () => {
  const ofItsOwn = await startRedis();
  const opened = onRedis({ kind: "standalone", url: ofItsOwn.url });
  await opened.start();
  const [dead, alive] = opened.stores;
  await dead.renewLease("dead", { fresh: true });
  const channel = "room:swept";
  const users = [{ user: "ada", tenant: "a b" }, { user: "b ada", tenant: "a" }, { user: "ada" }];
  for (const [i, user] of users.entries()) {
    const request = { sessionId: `session-${i}`, ...user, claim: 0, checkedAt: 0, node: "dead" };
    const outcome = await dead.claim({ ...request, mode: "begin", holder: "dead" });
    const claim = outcome.kind === "held" ? outcome.claim : 0;
    await dead.enter({ session: { ...request, claim }, channel, holder: "dead", announceUpTo: 0 });
  }
  const stays = {
    sessionId: "stays",
    user: "ada",
    tenant: "c",
    claim: 0,
    checkedAt: 0,
    node: "alive",
    holder: "alive",
  };
  await alive.renewLease("alive", { fresh: true });
  expect((await alive.claim({ ...stays, mode: "begin" })).kind).toBe("held");
  await dead.abandon("dead", { inMs: 0 });
  expect(await alive.sweep()).toBe(1);
  const client = new Redis(ofItsOwn.url);
  const names = (await client.keys("*")).filter((name) => !/ended|\{nodes\}/.test(name));
  client.disconnect();
  expect(names.map((name) => name.replace(/^tidegate:\{\d+\}:/, "")).toSorted()).toEqual([
    "held:alive",
    "sessions:\u001fc:ada",
  ]);
  await opened.stop();
  await ofItsOwn.stop();
});

test.concurrent("PRES-4: one sweeper removes the entries of an expired holder and ends its sessions", async () => {
  const ofItsOwn = await startRedis();
  const opened = onRedis({ kind: "standalone", url: ofItsOwn.url });
  await opened.start();
  const [dead, alive] = opened.stores;
  await dead.renewLease("dead", { fresh: true });
  await alive.renewLease("alive", { fresh: true });
  const channel = "board:swept";
  const users = Array.from({ length: 300 }, (_, i) => `swept ${i}`);
  // All at once: the lease must not end meanwhile.
  await Promise.all(
    users.map(async (user, i) => {
      const request = { sessionId: `session-${i}`, user, claim: 0, checkedAt: 0, node: "dead" };
      const outcome = await dead.claim({ ...request, mode: "begin", holder: "dead" });
      const claim = outcome.kind === "held" ? outcome.claim : 0;
      await dead.enter({ session: { ...request, claim }, channel, holder: "dead", announceUpTo: 0 });
    }),
  );
  expect(await alive.presence(channel, 100)).toEqual({ count: 300 });
  const swept = { dead: 0, alive: 0 };
  await eventually(async () => {
    await alive.renewLease("alive", { fresh: false });
    const [one, two] = await Promise.all([dead.sweep(), alive.sweep()]);
    swept.dead += one;
    swept.alive += two;
    return swept.dead + swept.alive > 0;
  });
  expect(swept.dead + swept.alive).toBe(1);
  expect(await alive.presence(channel, 100)).toEqual({ members: [] });
  expect(await alive.sessionsOf(identityKey({ user: "swept 7" }))).toEqual([]);
  expect(await dead.renewLease("dead", { fresh: false })).toBe(false);
  const stay = { sessionId: "stay", user: "stays", claim: 0, checkedAt: 0, node: "alive" };
  const outcome = await alive.claim({ ...stay, mode: "begin", holder: "alive" });
  const claim = outcome.kind === "held" ? outcome.claim : 0;
  await alive.enter({ session: { ...stay, claim }, channel, holder: "alive", announceUpTo: 0 });
  await alive.leave({ session: { ...stay, claim }, channel, holder: "alive", announceUpTo: 0 });
  await alive.end({ ...stay, claim }, "alive");
  // Only the record that a session ended remains, for a while.
  const client = new Redis(ofItsOwn.url);
  const names = await client.keys("*");
  client.disconnect();
  const left = names.filter((name) => !name.includes(":ended:")).toSorted();
  const ofLeases = ["last-seen", "leases", "passes", "to-sweep"];
  expect(left).toEqual(ofLeases.map((name) => `tidegate:{nodes}:${name}`));
  const back = { sessionId: "session-7", user: "swept 7", claim: 1, checkedAt: 1, holder: "alive", node: "alive" };
  expect((await alive.claim({ ...back, mode: "resume" })).kind).toBe("held");
  await opened.stop();
  await ofItsOwn.stop();
});

test.concurrent("EVT-4: the grace time of a killed node's sessions counts from its last renewal", async () => {
  const ofItsOwn = await startRedis();
  const opened = onRedis({ kind: "standalone", url: ofItsOwn.url });
  await opened.start();
  const [dead, alive] = opened.stores;
  const client = new Redis(ofItsOwn.url);
  /** By the clock of Redis, in ms. */
  const now = async (): Promise<number> => {
    const [seconds, microseconds] = await client.time();
    return Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  };
  const session = { sessionId: "killed", user: "ada", claim: 0, checkedAt: 0, node: "dead" };
  await dead.renewLease("dead", { fresh: true });
  const events = { profile: "{}", connected: false };
  await dead.claim({ ...session, mode: "begin", holder: "dead", events });
  const beforeRenewal = await now();
  await dead.renewLease("dead", { fresh: false });
  const afterRenewal = await now();
  await eventually(async () => (await alive.sweep()) > 0);
  const beforeTake = await now();
  const { nextMs = 0 } = await alive.takeEvents();
  const afterTake = await now();
  client.disconnect();
  // Scripts round to milliseconds.
  expect(afterTake + nextMs).toBeGreaterThan(beforeRenewal + graceMs - 2);
  expect(beforeTake + nextMs).toBeLessThan(afterRenewal + graceMs + 2);
  // It may still resume.
  const back = await alive.claim({ ...session, claim: 1, checkedAt: 1, mode: "resume", holder: "alive" });
  expect(back.kind).toBe("held");
  expect(await alive.takeEvents()).toEqual({ events: [], nextMs: undefined });
  await opened.stop();
  await ofItsOwn.stop();
});
