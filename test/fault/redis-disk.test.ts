/** A Redis whose disk is full, or that reads its data from disk. */
import { Redis } from "ioredis";
import { afterEach, expect, test } from "vitest";
import { channelKeys } from "../../shared/channels/keys.ts";
import { checkRedisSetup } from "../../shared/redis/setup.ts";
import { allHave, expectRefused } from "../support/broker-health.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, startFleet } from "../support/fleet.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, refusedConnect, type StockClient, userToken } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await redis.stop();
});

const channel = "board:1";

async function publish(data: unknown, more: object = {}): Promise<ApiAnswer> {
  return fleet.api("POST", "/v1/publish", { channel, event: "moved", data, ...more });
}

/** Retries until the publish succeeds. */
async function published(data: unknown): Promise<void> {
  await eventually(async () => (await publish(data)).status === 200);
}

async function storedData(): Promise<unknown[]> {
  const { body } = await fleet.api("GET", `/v1/channels/${channel}/history`);
  return (body["publications"] as { data: unknown }[]).map(({ data }) => data);
}

function eventsOf({ received }: StockClient): unknown[] {
  return received.filter(({ event }) => event !== "sync:policy").map(({ event, data }) => [event, data]);
}

async function expectNoNewSession(): Promise<void> {
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken({ sub: "new" }) });
  expect(refusal).toMatchObject({ code: "broker_unavailable", retryable: true });
}

test("RED-5: while the append-only file cannot grow, publishes fail and store nothing; then all is kept", async () => {
  redis = await startRedis({ appendOnly: true });
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2, rules: {} });
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  await published("before");

  await redis.fillDisk();
  // Redis learns of the full disk with a write that it acknowledges.
  const acknowledged: unknown[] = ["before"];
  await eventually(async () => {
    const data = `unnoticed ${acknowledged.length}`;
    const { status } = await publish(data);
    if (status === 200) acknowledged.push(data);
    return status === 503;
  });
  await allHave(fleet, "200 degraded");
  await eventually(() => fleet.log().includes("the server cannot write to its disk"));
  expectRefused(await publish("refused"));
  expectRefused(await publish("refused", { id: "repeated" }));
  const { state, history } = channelKeys("tidegate", channel);
  const stored = await asked(redis, async (raw) => [await raw.xlen(history), await raw.hget(state, "offset")]);
  expect(stored).toEqual([acknowledged.length, String(acknowledged.length)]);
  expect(await asked(redis, (raw) => raw.keys("*:id:*"))).toEqual([]);
  expect(await storedData()).toEqual(acknowledged);
  expect((await publish("ephemeral", { history: false })).status).toBe(200);
  await expectNoNewSession();
  expect(client.socket.connected).toBe(true);

  await redis.freeDisk();
  await published("after");
  await allHave(fleet, "200 ok");
  await client.next(({ data }) => data === "after");
  const live = [...acknowledged, "ephemeral", "after"];
  expect(eventsOf(client)).toEqual(live.map((data) => ["moved", data]));
  // What Redis acknowledged without room for it is in the file by now.
  await redis.kill();
  await redis.restart();
  await published("restarted");
  expect(await storedData()).toEqual([...acknowledged, "after", "restarted"]);
});

test("RED-10: while Redis loads its data, publishes fail with 503 and nodes are degraded, then recover", async () => {
  redis = await startRedis();
  const target = { kind: "standalone", url: redis.url } as const;
  fleet = await startFleet({ target, gateways: 2, rules: {} });
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(channel);
  await published("before");
  await asked(redis, async (raw) => {
    const filler = raw.pipeline();
    for (let n = 0; n < 3_000; n++) filler.set(`filler:${n}`, `${n} `.repeat(300));
    await filler.exec();
    await raw.save();
  });
  await redis.kill();
  // Far longer than the test: it ends the loading.
  await redis.restart({ loadingMsPerKey: 200 });

  await eventually(() => fleet.log().includes('"reason":"the server is loading its data'));
  await allHave(fleet, "200 degraded");
  expectRefused(await publish("refused"));
  expectRefused(await publish("refused", { history: false }));
  expectRefused(await fleet.api("GET", `/v1/channels/${channel}/history`));
  const subscribed = await clients[0]?.request("sync:subscribe", { channel: "board:2" });
  expect(subscribed?.error).toMatchObject({ code: "broker_unavailable", retryable: true });
  await expectNoNewSession();
  // A program that starts now waits as well.
  await checkRedisSetup(target);
  const operator = new Redis(redis.url, { enableReadyCheck: false });
  expect(await operator.get("filler:0").catch(String)).toContain("LOADING");

  await operator.config("SET", "key-load-delay", "0");
  operator.disconnect();
  await published("after");
  await allHave(fleet, "200 ok");
  for (const client of clients) {
    await client.next(({ data }) => data === "after");
    expect(eventsOf(client)).toEqual([
      ["moved", "before"],
      ["moved", "after"],
    ]);
  }
});
