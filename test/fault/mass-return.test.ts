/** All clients reconnect at once, or need a resync because history cannot bridge the gap. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { channelKeys } from "../../shared/channels/keys.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

const historySize = 2_000;
let redis: RedisServer;
let fleet: Fleet;
beforeAll(async () => {
  redis = await startRedis();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    rules: { namespaces: { board: { historySize } } },
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

async function publish(channel: string, count: number): Promise<Position> {
  let last: Position | undefined;
  for (let left = count; left > 0; left -= 1_000) {
    const items = Array.from({ length: Math.min(left, 1_000) }, () => ({ channel, event: "moved", data: 1 }));
    const answer = await fleet.api("POST", "/v1/publish/batch", items);
    expect(answer.status, answer.text).toBe(200);
    last = (answer.body as unknown as Position[]).at(-1);
  }
  if (!last) throw new Error("nothing was published");
  return last;
}

/** Half of the clients on each node. */
async function connectMany(count: number): Promise<StockClient[]> {
  return Promise.all(Array.from({ length: count }, (_, i) => connectClient(fleet.urls[i % 2] ?? "")));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

async function metrics(series: string): Promise<number[]> {
  return Promise.all(fleet.gateways.map((gateway) => metricOf(gateway, series)));
}

test("REC-4: two hundred clients that recover at once cost each node two reads of history", async () => {
  const channel = "board:storm";
  const { epoch } = await publish(channel, 1_800);
  const clients = await connectMany(200);
  // One client on each node is too far behind.
  const positions = clients.map((_, i) => (i < 2 ? 100 + i : 800 + i * 5));
  const acks = await Promise.all(
    clients.map((client, i) => client.subscribe(channel, { epoch, offset: positions[i] ?? 0 })),
  );
  for (const [i, ack] of acks.entries()) {
    if (i < 2) expect(ack).toMatchObject({ recovered: false, reason: "too_far_behind", position: { offset: 1_800 } });
    else expect(ack.publications.map(({ offset }) => offset)).toEqual(range((positions[i] ?? 0) + 1, 1_800));
  }
  expect(await metrics('history_reads_total{kind="recover"}')).toEqual([2, 2]);
  expect(await metrics('recoveries_total{outcome="too_far_behind"}')).toEqual([1, 1]);

  await publish(channel, 1);
  for (const client of clients) {
    await client.next((received) => (received.meta as { offset?: number }).offset === 1_801);
    expect(client.received).toHaveLength(1);
  }
  // The node follows the channel by now: recovery from its tail costs no read.
  const again = await Promise.all(clients.map((client) => client.subscribe(channel, { epoch, offset: 1_500 })));
  for (const ack of again) expect(ack.publications.map(({ offset }) => offset)).toEqual(range(1_501, 1_801));
  expect(await metrics('history_reads_total{kind="recover"}')).toEqual([2, 2]);
  const [bytes = 0] = await metrics("tail_bytes");
  expect(bytes).toBeGreaterThan(0);
});

test("HUB-7: after a lost history, each of two hundred clients gets one resync, then live publications", async () => {
  const channel = "board:lost";
  await publish(channel, 5);
  const clients = await connectMany(200);
  await Promise.all(clients.map((client) => client.subscribe(channel)));
  const { state, history } = channelKeys("tidegate", channel);
  const raw = new Redis(redis.url);
  await raw.del(state, history);
  raw.disconnect();
  const { epoch } = await publish(channel, 1);
  await Promise.all(clients.map((client) => client.next(({ event }) => event === "sync:resync")));
  expect(await metrics('resyncs_total{reason="epoch_changed"}')).toEqual([100, 100]);
  await publish(channel, 1);
  for (const client of clients) {
    await client.next((received) => (received.meta as { offset?: number } | undefined)?.offset === 2);
    expect(client.received.map(({ event }) => event)).toEqual(["sync:resync", "moved"]);
    expect(client.received[0]?.data).toEqual({ channel, position: { epoch, offset: 1 }, reason: "epoch_changed" });
  }
});

test("HUB-7: a client that subscribes again before its resync gets an answer and no resync", async () => {
  const channel = "board:impatient";
  await publish(channel, 5);
  const clients = await connectMany(120);
  const acks = await Promise.all(clients.map((client) => client.subscribe(channel)));
  const before = acks[0]?.position;
  if (!before) throw new Error("no client subscribed");
  const { state, history } = channelKeys("tidegate", channel);
  const raw = new Redis(redis.url);
  await raw.del(state, history);
  raw.disconnect();
  const resynced = Promise.race(clients.map((client) => client.next(({ event }) => event === "sync:resync")));
  const { epoch } = await publish(channel, 1);
  await resynced;
  const again = await Promise.all(
    clients.map(async (client) => ({ ack: await client.subscribe(channel, before), seen: client.received.length })),
  );
  for (const { ack } of again) {
    expect(ack).toMatchObject({ recovered: false, reason: "epoch_changed", position: { epoch } });
  }
  await publish(channel, 1);
  for (const [i, client] of clients.entries()) {
    await client.next(({ meta }) => (meta as { offset?: number } | undefined)?.offset === 2);
    expect(client.received.slice(again[i]?.seen).map(({ event }) => event)).toEqual(["moved"]);
  }
});

test("HUB-9: after an interruption, only the history of channels that moved is read", async () => {
  const channels = range(1, 150).map((n) => `board:quiet-${n}`);
  const [client] = await connectMany(1);
  await Promise.all(channels.map((channel) => publish(channel, 1)));
  for (const channel of channels) await client?.subscribe(channel);
  const [node] = fleet.gateways;
  if (!node || !client) throw new Error("no node");
  const aligned = await metricOf(node, 'history_reads_total{kind="align"}');
  const compared = await metricOf(node, 'history_reads_total{kind="compare"}');
  const { state, history } = channelKeys("tidegate", "board:quiet-70");
  const raw = new Redis(redis.url);
  await raw.multi().hset(state, "offset", "2").xadd(history, "2-0", "p", "1", "e", "moved", "d", '"missed"').exec();
  await raw.call("CLIENT", "KILL", "TYPE", "pubsub");
  raw.disconnect();
  await client.next((received) => received.data === "missed");
  await eventually(async () => (await metricOf(node, 'history_reads_total{kind="compare"}')) >= compared + 150);
  expect(await metricOf(node, 'history_reads_total{kind="align"}')).toBe(aligned + 1);
  expect(client.received.map(({ data }) => data)).toEqual(["missed"]);
});
