/** The cost of one connection's requests for the node, for Redis and for other clients. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Position } from "../../shared/protocol/wire.ts";
import { createStores } from "../../shared/program/stores.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { quietLogger } from "../support/logger.ts";
import { RawClient } from "../support/raw-client.ts";
import { textFrame } from "../support/raw-websocket.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

const channel = "board:big";

let redis: RedisServer;
let fleet: Fleet;
let url: string;
const rawClients: RawClient[] = [];
beforeEach(async () => {
  redis = await startRedis();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    rules: { namespaces: { board: { historySize: 1_000 } } },
  });
  url = fleet.urls[0] ?? "";
});
afterEach(async () => {
  closeClients();
  for (const { socket } of rawClients.splice(0)) socket.destroy();
  await fleet.stop();
  await redis.stop();
});

async function rawClient(): Promise<RawClient> {
  const client = await RawClient.connect(new URL(url), await userToken());
  rawClients.push(client);
  return client;
}

/** One page of history: 20 publications, 500 KB together. */
async function publishPage(): Promise<Position> {
  const item = { channel, event: "moved", data: "x".repeat(25_000) };
  const { body } = await fleet.api(
    "POST",
    "/v1/publish/batch",
    Array.from({ length: 20 }, () => item),
  );
  return (body as unknown as Position[]).at(-1) ?? { epoch: "", offset: 0 };
}

/** Reads of a history that is not empty. */
async function pagesRead(): Promise<number> {
  const stats = await asked(redis, (client) => client.info("commandstats"));
  return Number(/cmdstat_xrange:calls=(\d+)/.exec(stats)?.[1] ?? 0);
}

/** Sends many at once, in one write, and ignores the answers. */
function sendAll(client: RawClient, count: number, event: string, request: object): void {
  const frames = Array.from({ length: count }, (_, i) => `42${10_000 + i}${JSON.stringify([event, request])}`);
  client.socket.write(Buffer.concat(frames.map(textFrame)));
}

async function metric(series: string): Promise<number> {
  const [gateway] = fleet.gateways;
  if (!gateway) throw new Error("there is no gateway");
  return metricOf(gateway, series);
}

test("COST-1: the node reads no more history for a client that does not read its answers", async () => {
  await publishPage();
  const honest = await connectClient(url, { sub: "bob" });
  await honest.subscribe(channel);
  const greedy = await rawClient();
  await greedy.subscribe(channel);
  greedy.socket.pause();
  sendAll(greedy, 400, "sync:history", { channel });
  await eventually(async () => (await metric("outbox_largest_bytes")) > 256 * 1_024);
  expect(await honest.request("sync:history", { channel })).toMatchObject({ ok: true });
  // The kernel buffers a few MiB per connection: until those are full, the outbox is emptied and filled again.
  let read = 0;
  await eventually(async () => {
    const before = read;
    read = await pagesRead();
    return read === before && (await metric("outbox_largest_bytes")) > 256 * 1_024;
  });
  expect(read).toBeLessThan(60);
  // Nor for requests that still wait when the session ends.
  greedy.socket.destroy();
  await eventually(async () => (await metricOf(fleet.gateways[0], "sessions")) === 1);
  expect(await honest.request("sync:history", { channel })).toMatchObject({ ok: true });
  expect(await pagesRead()).toBeLessThanOrEqual(read + 3);
});

test("LIM-2: at most 600 requests of a connection wait for an answer; the next is refused", async () => {
  await publishPage();
  const client = await rawClient();
  await client.subscribe(channel);
  client.socket.pause();
  // Each page that is read lets one more request in.
  sendAll(client, 700, "sync:history", { channel, limit: 20 });
  await eventually(async () => (await metric('limited_total{kind="request"}')) >= 10);
  expect(await pagesRead()).toBeLessThan(60);
});

test("COST-2: a page that is read and then refused counts as a full one", async () => {
  await publishPage();
  const client = await connectClient(url);
  await client.subscribe(channel);
  const startedAt = performance.now();
  const stale = { channel, epoch: "another" };
  const answers = await Promise.all(Array.from({ length: 20 }, () => client.request("sync:history", stale)));
  expect(new Set(answers.map(({ error }) => error?.code))).toEqual(new Set(["epoch_changed"]));
  // Eight pages of 512 KiB pass at once, then eight a second.
  expect(performance.now() - startedAt).toBeGreaterThan(1_000);
});

test("COST-3: six refreshes pass at once; the next is refused before its token is verified", async () => {
  const service = await startService();
  service.answer = (_request, response) => answerJson(response, { info: { name: "Ada" } });
  await fleet.api("PUT", "/v1/rules", {
    services: { gate: { url: service.url, secret: serviceSecret } },
    hooks: { subscribe: "gate" },
  });
  await eventually(async () => (await metricOf(fleet.gateways[0], "rules_version")) === 2);
  const exp = Math.floor(Date.now() / 1_000) + 3_600;
  const client = await connectClient(url, { exp });
  const { grant } = await client.subscribe("room:1");
  const token = await userToken({ exp });
  const answers = await Promise.all(Array.from({ length: 7 }, () => client.request("sync:refresh", { token })));
  expect(answers.map(({ ok }) => ok)).toEqual([true, true, true, true, true, true, false]);
  // The token lasts as long as the one before, and so does the grant.
  expect(answers[0]?.["grants"]).toEqual({ "room:1": grant });
  const refused = await client.request("sync:refresh", { token: "forged" });
  expect(refused.error).toMatchObject({ code: "rate_limited", retryable: true });
  expect(refused.error?.retryAfterMs).toBeGreaterThan(1_000);
  await service.stop();
});

test("COST-4: pages, replays and conflicts have the data as it was stored", async () => {
  const stores = createStores({ kind: "standalone", url: redis.url }, quietLogger);
  await stores.start();
  const stored = '{ "amount" : 1.50, "amount" : 100000000000000000000001 }';
  const retention = { historySize: 100, historySeconds: 300 };
  const { position } = await stores.broker.publish({ channel: "board:text", event: "paid", data: stored, retention });
  await stores.stop();
  const member = `"publications":[{"offset":1,"event":"paid","data":${stored}}]`;

  const client = await rawClient();
  let heard = "";
  client.socket.on("data", (chunk: Buffer) => (heard += String(chunk)));
  await client.subscribe("board:text", { epoch: position.epoch, offset: 0 });
  expect(heard).toContain(member);
  heard = "";
  await client.request("sync:history", { channel: "board:text" });
  expect(heard).toContain(member);

  const page = await fleet.api("GET", "/v1/channels/board:text/history");
  expect(page.headers.get("content-type")).toContain("application/json");
  expect(page.text).toContain(member);
  const expect0 = { epoch: position.epoch, offset: 0 };
  const conflict = await fleet.api("POST", "/v1/publish", {
    channel: "board:text",
    event: "paid",
    data: 1,
    expect: expect0,
  });
  expect(conflict.status).toBe(409);
  expect(conflict.body).toMatchObject({ code: "conflict", position });
  expect(conflict.text).toContain(member);
});

test("COST-5: a request with thousands of members is refused with their number only", async () => {
  const client = await connectClient(url);
  const members = Object.fromEntries(Array.from({ length: 6_000 }, (_, i) => [`member${i}`, i]));
  const { error } = await client.request("sync:subscribe", { channel, ...members });
  expect(error).toMatchObject({ code: "invalid_request", message: "sync:subscribe: has 6001 members" });
  const call = await client.request("card.move", {}, members);
  expect(call.error).toMatchObject({ code: "invalid_request", message: "the options are not valid: has 6000 members" });
});

test("BATCH-4: a conflict within a batch reads no history", async () => {
  const { epoch } = await publishPage();
  const before = await pagesRead();
  const item = { channel, event: "moved", data: 1, expect: { epoch, offset: 0 } };
  const { body } = await fleet.api(
    "POST",
    "/v1/publish/batch",
    Array.from({ length: 50 }, () => item),
  );
  const codes = (body as unknown as { error: { code: string } }[]).map(({ error }) => error.code);
  expect(codes).toEqual(Array(50).fill("conflict"));
  expect(await pagesRead()).toBe(before);
});
