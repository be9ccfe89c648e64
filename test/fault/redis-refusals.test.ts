/** A Redis that answers with refusals. */
import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterEach, expect, test } from "vitest";
import { channelKeys } from "../../shared/channels/keys.ts";
import { allHave, expectRefused } from "../support/broker-health.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, startFleet } from "../support/fleet.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, refusedConnect, type StockClient, userToken } from "../support/stock-client.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";

let redis: RedisServer;
let fleet: Fleet;
/** Stopped after the fleet. */
const others: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await redis.stop();
  for (const other of others.splice(0)) await other.stop();
});

const channel = "board:1";
const rules = { namespaces: { board: { presence: true, joinLeave: true } } };

async function publish(data: unknown, more: object = {}): Promise<ApiAnswer> {
  return fleet.api("POST", "/v1/publish", { channel, event: "moved", data, ...more });
}

/** Retries until the publish succeeds. */
async function published(data: unknown): Promise<void> {
  await eventually(async () => (await publish(data)).status === 200);
}

function dataOf({ received }: StockClient): unknown[] {
  return received.filter(({ event }) => event !== "sync:policy").map(({ data }) => data);
}

async function set(name: string, value: string): Promise<void> {
  await asked(redis, (client) => client.config("SET", name, value));
}

test("RED-4: when memory is full, publishes fail with 503; reads and leaves work", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2, rules });
  const [stays, leaves, ends] = [
    await connectClient(fleet.urls[0] ?? "", { sub: "stays" }),
    await connectClient(fleet.urls[1] ?? "", { sub: "leaves" }),
    await connectClient(fleet.urls[1] ?? "", { sub: "ends" }),
  ];
  for (const client of [stays, leaves, ends]) await client.subscribe(channel);
  const before = (await publish("before")).body;
  await set("maxmemory", "1");

  const large = "x".repeat(60_000);
  const answers = await Promise.all(Array.from({ length: 300 }, (_, n) => publish(large, n % 2 ? { id: `${n}` } : {})));
  for (const answer of answers) expectRefused(answer);
  expectRefused(await publish(large, { history: false, id: "ephemeral" }));
  const { state, history } = channelKeys("tidegate", channel);
  const stored = await asked(redis, async (client) => [await client.xlen(history), await client.hget(state, "offset")]);
  expect(stored).toEqual([1, "1"]);
  expect(await asked(redis, (client) => client.keys("*:id:*"))).toEqual([]);

  const read = await fleet.api("GET", `/v1/channels/${channel}/history?after=0`);
  expect([read.status, read.body["position"]]).toEqual([200, before]);
  expect((await stays.subscribe(channel, { epoch: String(before["epoch"]), offset: 0 })).recovered).toBe(true);
  expectRefused(await fleet.api("GET", "/v1/channels/board:unknown/history"));
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken({ sub: "new" }) });
  expect(refusal).toMatchObject({ code: "broker_unavailable", retryable: true });

  expect((await leaves.request("sync:unsubscribe", { channel })).ok).toBe(true);
  await stays.next(({ event, data }) => event === "sync:leave" && (data as { user: string }).user === "leaves");
  expect((await fleet.api("POST", "/v1/users/ends/disconnect", {})).status).toBe(202);
  expect(await ends.disconnected).toBe("io server disconnect");
  await eventually(async () => {
    const { body } = await fleet.api("GET", "/v1/users/ends/sessions");
    return (body["sessions"] as unknown[]).length === 0;
  });

  await set("maxmemory", "0");
  const after = await publish("after");
  expect([after.status, after.body]).toEqual([200, { epoch: before["epoch"], offset: 2 }]);
  await stays.next(({ data }) => data === "after");
  expect(stays.received.filter(({ event }) => event === "moved").map(({ data }) => data)).toEqual(["before", "after"]);
});

test("RED-5: when the disk is full, publishes fail with 503 and nodes are degraded; reads work", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, rules: {} });
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  await published("before");
  const [, folder = ""] = await asked(redis, (raw) => raw.config("GET", "dir"));
  // A directory at the path of the snapshot prevents writing it.
  await mkdir(join(folder, "dump.rdb"));
  await set("save", "3600 1");
  await asked(redis, (raw) => raw.bgsave());
  await allHave(fleet, "200 degraded");
  await eventually(() => fleet.log().includes("the server cannot write to its disk"));
  expectRefused(await publish("refused"));
  expect((await fleet.api("GET", `/v1/channels/${channel}/history`)).status).toBe(200);
  expect((await publish("ephemeral", { history: false })).status).toBe(200);

  await rmdir(join(folder, "dump.rdb"));
  await asked(redis, (raw) => raw.bgsave());
  await published("after");
  await allHave(fleet, "200 ok");
  await client.next(({ data }) => data === "after");
  expect(dataOf(client)).toEqual(["before", "ephemeral", "after"]);
});

test("RED-6: nodes reconnect to the replica that was promoted behind the address", async () => {
  redis = await startRedis();
  const replica = await startRedis({ replicaOf: redis.port });
  const link = await startTcpProxy(redis.port);
  others.push(link, replica);
  await eventually(async () => (await asked(replica, (client) => client.role()))[3] === "connected");
  fleet = await startFleet({
    target: { kind: "standalone", url: `redis://127.0.0.1:${link.port}` },
    gateways: 2,
    rules: {},
  });
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(channel);
  await published("before");
  await eventually(async () => (await asked(redis, (client) => client.wait(1, 1_000))) === 1);

  await asked(replica, (client) => client.replicaof("NO", "ONE"));
  await asked(redis, (client) => client.replicaof("127.0.0.1", replica.port));
  link.redirect(replica.port);
  await published("after");
  await allHave(fleet, "200 ok");
  await published("last");
  for (const client of clients) {
    await client.next(({ data }) => data === "last");
    expect(dataOf(client)).toEqual(["before", "after", "last"]);
  }
  // Subscriptions move too.
  await eventually(async () => {
    const topics = (await asked(redis, (client) => client.call("PUBSUB", "SHARDCHANNELS"))) as string[];
    return topics.length === 0;
  });
});

test("RED-6: nodes are degraded and log why while the server is a replica, then recover", async () => {
  redis = await startRedis();
  const other = await startRedis();
  others.push(other);
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, rules: {} });
  await published("before");
  await asked(redis, (client) => client.replicaof("127.0.0.1", other.port));
  await allHave(fleet, "200 degraded");
  expectRefused(await publish("refused"));
  await eventually(() => fleet.log().includes("the server is a replica"));
  await asked(redis, (client) => client.replicaof("NO", "ONE"));
  await published("after");
  await allHave(fleet, "200 ok");
});

test("RED-7: while Redis refuses writes, nodes are degraded, log why and refuse new sessions", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, rules: {} });
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  await published("before");
  await set("min-replicas-to-write", "1");
  await allHave(fleet, "200 degraded");
  await eventually(() => fleet.log().includes("too few replicas follow the server"));
  expectRefused(await publish("refused"));
  expect((await client.subscribe(channel)).ok).toBe(true);
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken({ sub: "new" }) });
  expect(refusal).toMatchObject({ code: "broker_unavailable", retryable: true });
  await set("min-replicas-to-write", "0");
  await allHave(fleet, "200 ok");
  await published("after");
  await client.next(({ data }) => data === "after");
  expect(dataOf(client)).toEqual(["before", "after"]);
});

test.for([
  // Closes at once, before the client can read the reason.
  {
    title: "no connection left",
    begin: "CONFIG SET maxclients 1",
    end: "CONFIG SET maxclients 1000",
    named: "EPIPE|RESET",
  },
  {
    title: "another password",
    begin: "ACL SETUSER default resetpass >other",
    end: "ACL SETUSER default nopass",
    named: "requires a password",
  },
  {
    title: "fewer rights",
    begin: "ACL SETUSER default -eval -evalsha",
    end: "ACL SETUSER default +eval +evalsha",
    named: "lacks a right",
  },
])("RED-8: a server with $title makes nodes degraded, is logged, and is used again", async (kind) => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, rules: {} });
  await published("before");
  const operator = new Redis(redis.url);
  operator.on("error", () => undefined);
  others.push({ stop: async () => operator.disconnect() });
  const run = async (line: string): Promise<void> => {
    const [name = "", ...words] = line.split(" ");
    await operator.call(name, ...words);
  };
  await run(kind.begin);
  for (const type of ["normal", "pubsub"]) await run(`CLIENT KILL TYPE ${type} SKIPME yes`);
  await allHave(fleet, "200 degraded");
  await eventually(() => new RegExp(`"reason":"[^"]*(${kind.named})`).test(fleet.log()));
  expectRefused(await publish("refused"));
  await run(kind.end);
  await published("after");
  await allHave(fleet, "200 ok");
});

test("RED-8: a server that another client's script keeps busy is used again once the script ends", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, rules: {} });
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  await published("before");
  await set("busy-reply-threshold", "1");
  // However long the nodes need to notice.
  const looping = new Redis(redis.url);
  others.push({ stop: async () => looping.disconnect() });
  const ended = looping.eval("while true do end", 0).catch(String);
  await eventually(() => fleet.log().includes('"reason":"a script keeps the server busy"'));
  await allHave(fleet, "200 degraded");
  expectRefused(await publish("refused"));
  // INFO, with which a client begins, is not answered now.
  const operator = new Redis(redis.url, { enableReadyCheck: false });
  await operator.call("SCRIPT", "KILL");
  operator.disconnect();
  expect(await ended).toContain("killed");
  await published("after");
  await allHave(fleet, "200 ok");
  await client.next(({ data }) => data === "after");
  expect(dataOf(client)).toEqual(["before", "after"]);
});

test("RSET-4: a server that restarted with fewer databases is not used at all", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: `${redis.url}/9` }, rules: {} });
  await published("before");
  await redis.kill();
  await redis.restart({ databases: 4 });
  await allHave(fleet, "200 degraded");
  await eventually(() => fleet.log().includes('"reason":"the server has no database of that number"'));
  expectRefused(await publish("refused"));
  expect(await asked(redis, (client) => client.info("keyspace"))).not.toContain("db0");
  await redis.kill();
  await redis.restart();
  await published("after");
  await allHave(fleet, "200 ok");
});

test("RED-9: scripts that the server lost are resent without failure or duplicate", async () => {
  redis = await startRedis();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    rules: { namespaces: { board: { historySize: 1_000 } } },
  });
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  const sent: number[] = [];
  for (let round = 0; round < 20; round++) {
    const items = Array.from({ length: 40 }, (_, n) => ({ channel, event: "moved", data: round * 40 + n }));
    sent.push(...items.map(({ data }) => data));
    const [answer] = await Promise.all([
      fleet.api("POST", "/v1/publish/batch", items),
      asked(redis, (raw) => raw.script("FLUSH")),
    ]);
    expect(answer.status, answer.text).toBe(200);
  }
  await eventually(() => dataOf(client).length >= sent.length);
  expect(dataOf(client).toSorted((a, b) => Number(a) - Number(b))).toEqual(sent);
});
