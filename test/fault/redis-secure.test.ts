/** Redis with TLS, certificates, users and passwords, in each kind of deployment. */
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { gatewaySettings } from "../../gateway/config.ts";
import { type RedisTarget, redisTarget } from "../../shared/redis/target.ts";
import { checkRedisSetup } from "../../shared/redis/setup.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { asked } from "../support/redis-failover.ts";
import { startRedisSentinel } from "../support/redis-sentinel.ts";
import { type Secure, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ address }) => address === "::1"),
);

let certificates: Certificates;
let data: Secure;
beforeAll(async () => {
  certificates = await makeCertificates();
  // Characters that a URL and a list of URLs must escape.
  data = { certificates, user: "tide", password: "p@ss,w%rd/#?" };
});
afterAll(async () => certificates.stop());

let fleet: Fleet | undefined;
const servers: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  closeClients();
  await fleet?.stop();
  fleet = undefined;
  for (const server of servers.splice(0)) await server.stop();
});

/** The target as a program reads it. */
function targetFrom(settings: Record<string, string>): RedisTarget {
  const config = gatewaySettings.read(
    { PRIVATE_API_TOKEN: "a-token", AUTH_JWT_SECRET: "x".repeat(32), ...settings },
    { embedded: false },
  );
  const target = redisTarget(config);
  if (!target) throw new Error("no Redis is set");
  return target;
}

function tlsSettings(): Record<string, string> {
  const { ca, cert, key } = certificates.files;
  return { REDIS_TLS_CA: ca, REDIS_TLS_CERT: cert, REDIS_TLS_KEY: key };
}

async function published(channel: string, sent: unknown): Promise<void> {
  await eventually(async () => {
    const answer = await fleet?.api("POST", "/v1/publish", { channel, event: "moved", data: sent });
    return answer?.status === 200;
  });
}

/** The ACL rule of docs/operations.md that begins like this, for another user and password. */
async function documentedRule(begins: string, user: string, password: string): Promise<[string, ...string[]]> {
  const text = await readFile(new URL("../../docs/operations.md", import.meta.url), "utf8");
  const line = text.split("\n").find((candidate) => candidate.startsWith(begins)) ?? "";
  const [, , , ...rules] = line.split(" ");
  expect(rules).toContain(">password");
  return ["ACL", "SETUSER", user, ...rules.map((rule) => (rule === ">password" ? `>${password}` : rule))];
}

/** Publishes on each channel through one node. @returns what a client of the other node gets. */
async function delivered(target: RedisTarget, channels: readonly string[] = ["board:1"]): Promise<unknown[]> {
  fleet = await startFleet({ target, gateways: 2 });
  const client = await connectClient(fleet.urls[1] ?? "");
  for (const channel of channels) {
    await client.subscribe(channel);
    await published(channel, channel);
    await client.next((received) => received.data === channel);
  }
  expect(fleet.log()).not.toContain(data.password);
  return client.received.filter(({ event }) => event === "moved").map((received) => received.data);
}

test("RSEC-1: REDIS_URL and REDIS_READ_URL carry TLS, user, password and database", async () => {
  const primary = await startRedis({ secure: data });
  const replica = await startRedis({ secure: data, replicaOf: primary.port });
  servers.push(replica, primary);
  await eventually(async () => (await asked(replica, (client) => client.role()))[3] === "connected");
  const target = targetFrom({ REDIS_URL: `${primary.url}/3`, REDIS_READ_URL: `${replica.url}/3`, ...tlsSettings() });
  expect(await delivered(target)).toEqual(["board:1"]);
  expect(await asked(primary, (client) => client.info("keyspace"))).toMatch(/db3:keys=[1-9]/);
  const followed = await asked(replica, (client) => client.call("PUBSUB", "SHARDCHANNELS", "*:channel:*"));
  expect(followed).toHaveLength(1);
});

test("RSEC-2: sentinels have their own login; the login of the data is part of the name", async () => {
  const sentinels = { certificates, user: "watcher", password: "other" };
  const redis = await startRedisSentinel({ secure: { data, sentinels } });
  servers.push(redis);
  // With only the documented rights.
  const rule = await documentedRule("ACL SETUSER tidegate-sentinel", "reader", "third");
  for (const entry of redis.target.sentinels) {
    const url = `rediss://watcher:other@${entry.slice(entry.lastIndexOf("@") + 1)}`;
    await asked({ url, tls: certificates.pem }, (client) => client.call(...rule));
  }
  const target = targetFrom({
    REDIS_SENTINELS: redis.target.sentinels.join(",").replace("watcher:other", "reader:third"),
    REDIS_SENTINEL_MASTER: redis.target.master,
    ...tlsSettings(),
  });
  await checkRedisSetup(target);
  expect(await delivered(target)).toEqual(["board:1"]);
  const former = await redis.primary();
  await former.kill();
  await redis.promoted(former);
  await published("board:1", "after the failover");
});

test("RSEC-3: the login in REDIS_CLUSTER also applies to servers discovered later", async () => {
  const cluster = await startRedisCluster({ secure: data });
  servers.push(cluster);
  const [first = ""] = cluster.servers.map(({ url }) => url);
  const target = targetFrom({ REDIS_CLUSTER: first, ...tlsSettings() });
  const channels = Array.from({ length: 12 }, (_, n) => `board:${n}`);
  expect(await delivered(target, channels)).toEqual(channels);
});

test.runIf(hasIpv6)("RSEC-4: an address may be IPv6 in brackets", async () => {
  const redis = await startRedis({ host: "::1" });
  const cluster = await startRedisCluster({ host: "::1" });
  servers.push(redis, cluster);
  expect(await delivered(targetFrom({ REDIS_URL: redis.url }))).toEqual(["board:1"]);
  await fleet?.stop();
  const entries = cluster.servers.map(({ port }) => `[::1]:${port}`);
  const channels = ["board:1", "board:2", "board:3"];
  expect(await delivered(targetFrom({ REDIS_CLUSTER: entries.join(",") }), channels)).toEqual(channels);
});

test("RSEC-5: a user with the documented rights may run every command", async () => {
  const cluster = await startRedisCluster();
  const redis = await startRedis();
  servers.push(cluster, redis);
  const rule = await documentedRule("ACL SETUSER tidegate on", "low", "word");
  for (const server of [redis, ...cluster.servers]) await asked(server, (client) => client.call(...rule));
  const nodes = cluster.servers.map(({ port }) => `redis://low:word@127.0.0.1:${port}`);
  const url = redis.url.replace("redis://", "redis://low:word@");
  for (const target of [targetFrom({ REDIS_URL: url }), targetFrom({ REDIS_CLUSTER: nodes.join(",") })]) {
    await checkRedisSetup(target);
    await useEverything(target);
    await fleet?.stop();
    fleet = undefined;
  }
  for (const server of [redis, ...cluster.servers]) {
    expect(await asked(server, (client) => client.call("ACL", "LOG"))).toEqual([]);
  }
});

/** Every request of clients, services and operators that reaches Redis. */
async function useEverything(target: RedisTarget): Promise<void> {
  const rules = { namespaces: { board: { presence: true, joinLeave: true } } };
  fleet = await startFleet({ target, gateways: 2, rules });
  const { api, urls } = fleet;
  const ask = async (method: string, path: string, body?: unknown): Promise<void> => {
    const answer = await api(method, path, body);
    expect(answer.status, `${path} ${answer.text}`).toBeLessThan(300);
  };
  const client = await connectClient(urls[0] ?? "");
  await client.subscribe("board:1");
  const item = { channel: "board:1", event: "moved", data: 1 };
  await ask("POST", "/v1/publish", item);
  await ask("POST", "/v1/publish", { ...item, id: "once" });
  await ask("POST", "/v1/publish", { ...item, data: 2, id: "shown", history: false });
  await client.next(({ data: received }) => received === 2);
  await ask("GET", "/v1/channels/board:1/history?after=0");
  await ask("GET", "/v1/channels/board:1/presence");
  await ask("POST", "/v1/users/ada/send", { event: "hello", data: 3 });
  await client.next(({ event }) => event === "hello");
  await ask("GET", "/v1/users/ada/sessions");
  await ask("PUT", "/v1/rollouts", { groups: [], fallback: { name: "stable" } });
  await ask("GET", "/v1/nodes");
  const resumed = await connectClient(urls[1] ?? "", {}, { resume: client.welcome.resumeToken });
  expect(resumed.welcome.resumed).toBe(true);
  await ask("POST", "/v1/users/ada/disconnect", {});
  await resumed.disconnected;
  await ask("POST", "/v1/nodes/node-2/drain");
}

test("RSEC-6: a password rotates without a failure while Redis accepts both", async () => {
  const redis = await startRedis();
  servers.push(redis);
  const operator = new Redis(redis.url);
  const setUser = async (...rules: string[]): Promise<unknown> => operator.call("ACL", "SETUSER", "turn", ...rules);
  await setUser("on", ">old", "~tidegate:*", "&tidegate:*", "+@all");
  const urlWith = (password: string): string => redis.url.replace("redis://", `redis://turn:${password}@`);
  const before = await startFleet({ target: targetFrom({ REDIS_URL: urlWith("old") }) });
  fleet = before;
  const client = await connectClient(before.urls[0] ?? "");
  await client.subscribe("board:1");
  await published("board:1", "old");

  await setUser(">new");
  const after = await startFleet({ target: targetFrom({ REDIS_URL: urlWith("new") }) });
  const publish = async (by: Fleet, sent: string) =>
    (await by.api("POST", "/v1/publish", { channel: "board:1", event: "moved", data: sent })).status;
  expect([await publish(before, "both, old"), await publish(after, "both, new")]).toEqual([200, 200]);
  await before.stop();
  fleet = after;
  await setUser("<old");
  await operator.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  await published("board:1", "new");
  operator.disconnect();
});
