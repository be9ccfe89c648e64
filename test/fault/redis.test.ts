/** Restarts, losses and stalls of Redis. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { channelKeys } from "../../shared/channels/keys.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { allHave } from "../support/broker-health.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";
import { serviceSecret } from "../support/fleet.ts";

let redis: RedisServer;
let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await redis.stop();
});

const item = { channel: "board:1", event: "moved" };

async function publish(data: unknown): Promise<Position> {
  const answer = await fleet.api("POST", "/v1/publish", { ...item, data });
  expect(answer.status, answer.text).toBe(200);
  return answer.body as unknown as Position;
}

async function published(data: unknown): Promise<Position> {
  let position: Position | undefined;
  await eventually(async () => {
    const answer = await fleet.api("POST", "/v1/publish", { ...item, data });
    position = answer.body as unknown as Position;
    return answer.status === 200;
  });
  return position as Position;
}

test("RED-1: a restarted Redis jumps past every offset it may have lost; followers continue", async () => {
  redis = await startRedis({ appendOnly: true });
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2 });
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(item.channel);
  const before = await publish("before");
  await redis.kill();
  await redis.restart();
  const after = await published("after");
  expect(after.epoch).toBe(before.epoch);
  expect(after.offset).toBeGreaterThan(before.offset + 2 ** 20 - 1);
  expect(Number.isSafeInteger(after.offset)).toBe(true);
  const next = await publish("next");
  expect(next.offset).toBe(after.offset + 1);
  for (const client of clients) {
    await client.next((received) => received.data === "next");
    expect(client.received).toEqual([
      { event: "moved", data: "before", meta: { channel: "board:1", offset: 1 } },
      { event: "moved", data: "after", meta: { channel: "board:1", offset: after.offset, prev: 1 } },
      { event: "moved", data: "next", meta: { channel: "board:1", offset: next.offset } },
    ]);
  }
  // Messages may come before the probe after which a node takes new sessions.
  await allHave(fleet, "200 ok");
  const late = await connectClient(fleet.urls[0] ?? "");
  const ack = await late.subscribe(item.channel, before);
  expect(ack).toMatchObject({ recovered: true, position: next });
  expect(ack.publications.map((publication) => publication.prev)).toEqual([1, undefined]);
  const ahead = await late.request("sync:subscribe", { channel: item.channel, position: { ...before, offset: 2 } });
  expect(ahead).toMatchObject({ recovered: false, reason: "position_ahead" });
});

test("RED-1: two failovers in a row assign no offset twice, even with lost writes", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
  const { state, history } = channelKeys("tidegate", item.channel);
  const raw = new Redis(redis.url);
  const survivor = await publish("kept");
  // Another replication id in the state stands for another primary.
  await raw.hset(state, "replid", "the-one-before");
  const first = await publish("lost");
  await raw
    .multi()
    .hset(state, "offset", survivor.offset, "replid", "and-before-that")
    .xdel(history, `${first.offset}-0`)
    .exec();
  raw.disconnect();
  const after = await publish("after");
  expect(after.offset).toBeGreaterThan(first.offset);
  const [entry] = (await fleet.api("GET", `/v1/channels/${item.channel}/history?after=1`)).body[
    "publications"
  ] as object[];
  expect(entry).toEqual({ offset: after.offset, prev: survivor.offset, event: "moved", data: "after" });
});

test("RED-2: a Redis that lost its data causes one resync per follower, with the new epoch", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2 });
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(item.channel);
  const before = await publish("before");
  await redis.kill();
  await redis.restart();
  const after = await published("after");
  expect(after.epoch).not.toBe(before.epoch);
  for (const client of clients) await client.next((received) => received.event === "sync:resync");
  await publish("last");
  for (const client of clients) {
    await client.next((received) => received.data === "last");
    const resyncs = client.received.filter((received) => received.event === "sync:resync");
    expect(resyncs).toHaveLength(1);
    expect(resyncs[0]?.data).toMatchObject({
      channel: item.channel,
      reason: "epoch_changed",
      position: { epoch: after.epoch },
    });
  }
});

test("RED-3: without Redis calls work, publishes and new connections are refused, sessions stay", async () => {
  redis = await startRedis({ appendOnly: true });
  const service = await startService();
  onTestFinished(() => service.stop());
  service.answer = (_request, response) => answerJson(response, "done");
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 1,
    rules: {
      services: { work: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "work", service: "work", path: "/", mode: "call" }],
    },
  });
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(item.channel);
  await redis.kill();
  const answer = await fleet.api("POST", "/v1/publish", { ...item, data: "lost" });
  expect([answer.status, answer.body["code"], answer.headers.get("retry-after")]).toEqual([
    503,
    "broker_unavailable",
    "1",
  ]);
  expect((await client.request("work")).data).toBe("done");
  const subscribed = await client.request("sync:subscribe", { channel: "board:2" });
  expect(subscribed.error).toMatchObject({ code: "broker_unavailable", retryable: true });
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken({ sub: "grace" }) });
  expect(refusal).toMatchObject({ code: "broker_unavailable", retryable: true });
  const { adminDoor } = fleet.gateways[0] ?? {};
  const ready = await fetch(`http://127.0.0.1:${adminDoor?.port}/readyz`);
  expect([ready.status, ((await ready.json()) as { status: string }).status]).toEqual([200, "degraded"]);
  expect(client.socket.connected).toBe(true);

  await redis.restart();
  await published("back");
  await client.next((received) => received.data === "back");
  expect(client.received.some((received) => received.data === "lost")).toBe(false);
  expect((await client.request("sync:subscribe", { channel: "board:2" })).ok).toBe(true);
});

test("HUB-5: a last publication whose message was lost is found and delivered", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2 });
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(item.channel);
  await publish("first");
  for (const client of clients) await client.next((received) => received.data === "first");
  // Stores what publish.lua stores, without the message to followers.
  const { state, history } = channelKeys("tidegate", item.channel);
  const raw = new Redis(redis.url);
  await raw.multi().hset(state, "offset", "2").xadd(history, "2-0", "p", "1", "e", "moved", "d", '"lost"').exec();
  raw.disconnect();
  for (const client of clients) {
    await client.next((received) => received.data === "lost");
    expect(client.received.map((received) => received.data)).toEqual(["first", "lost"]);
  }
});

test("CH-9: history without a state is not shown in the new epoch and does not block publishes", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
  for (const data of [1, 2, 3]) await publish(data);
  const raw = new Redis(redis.url);
  await raw.del(channelKeys("tidegate", item.channel).state);
  raw.disconnect();
  const anew = await publish("anew");
  expect(anew.offset).toBe(1);
  const history = await fleet.api("GET", `/v1/channels/${item.channel}/history`);
  expect(history.body).toEqual({ position: anew, publications: [{ offset: 1, event: "moved", data: "anew" }] });
});

test("RULE-9: a store that lost the rules gets the rules of the file again", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-rules-"));
  const file = join(folder, "rules.yaml");
  await writeFile(file, "namespaces: { board: { historySize: 7 } }");
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, environment: { RULES_FILE: file } });
  const raw = new Redis(redis.url);
  await raw.flushall();
  await eventually(async () => (await raw.exists("tidegate:{rules}:document")) === 1);
  raw.disconnect();
  await rm(folder, { recursive: true });
});

test("BAD-7: refusals of Redis are logged without the command and its secrets", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
  const raw = new Redis(redis.url);
  await raw.config("SET", "maxmemory", "1");
  const rules = { services: { work: { url: "http://127.0.0.1:1", secret: serviceSecret } } };
  const refused = await fleet.api("PUT", "/v1/rules", rules);
  expect([refused.status, refused.body["code"]]).toEqual([503, "broker_unavailable"]);
  const wrong = createLogger({ name: "x", level: "info", destination: { write: (line) => void lines.push(line) } });
  const lines: string[] = [];
  wrong.error({ err: Object.assign(new Error("WRONGPASS"), { command: { args: ["hidden-password"] } }) }, "refused");
  expect(lines.join("")).toContain("WRONGPASS");
  expect(fleet.log() + lines.join("")).not.toMatch(/hidden-password|whsec_/);
  await raw.config("SET", "maxmemory", "0");
  raw.disconnect();
});

test("OPS-3: a hanging Redis degrades nodes; lost messages alone make them fail", async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
  const { adminDoor } = fleet.gateways[0] ?? {};
  const status = async (): Promise<string> => {
    const ready = await fetch(`http://127.0.0.1:${adminDoor?.port}/readyz`);
    return ((await ready.json()) as { checks: { broker: string } }).checks.broker;
  };
  expect(await status()).toBe("ok");
  redis.signal("SIGSTOP");
  await eventually(async () => (await status()) === "degraded");
  redis.signal("SIGCONT");
  await eventually(async () => (await status()) === "ok");

  const raw = new Redis(redis.url);
  const client = await connectClient(fleet.urls[0] ?? "");
  await raw.call("ACL", "SETUSER", "default", "-ssubscribe");
  const before = fleet.log().length;
  await raw.call("CLIENT", "KILL", "TYPE", "pubsub");
  await eventually(async () => (await status()) === "fail");
  await eventually(() => fleet.log().slice(before).includes("subscribing again failed"));
  expect(await status()).toBe("fail");
  await raw.call("ACL", "SETUSER", "default", "+ssubscribe");
  await eventually(async () => (await status()) === "ok");
  expect(client.socket.connected).toBe(true);
  raw.disconnect();
});
