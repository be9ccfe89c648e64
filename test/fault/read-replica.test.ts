/** Subscriptions and history served by a replica. */
import { afterEach, expect, test } from "vitest";
import type { HistoryQuery, Position } from "../../shared/channels/contract.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let primary: RedisServer;
/** The link between the replica and its primary. */
let link: TcpProxy;
let replica: RedisServer;
let fleet: Fleet | undefined;
let connections: RedisConnections | undefined;
afterEach(async () => {
  closeClients();
  await fleet?.stop();
  await connections?.stop();
  [fleet, connections] = [undefined, undefined];
  await replica.stop();
  await link.stop();
  await primary.stop();
});

const channel = "board:1";
const retention = { historySize: 100, historySeconds: 300 };

async function startServers(): Promise<{ kind: "standalone"; url: string; readUrl: string }> {
  primary = await startRedis();
  link = await startTcpProxy(primary.port);
  replica = await startRedis({ replicaOf: link.port });
  await eventually(async () => (await asked(replica, (client) => client.role()))[3] === "connected");
  return { kind: "standalone", url: primary.url, readUrl: replica.url };
}

async function startBroker(): Promise<RedisBroker> {
  connections = new RedisConnections({ target: await startServers(), errors: quietErrors, logger: quietLogger });
  const broker = new RedisBroker({ cells: new Cells(connections), logger: quietLogger });
  await connections.start();
  await broker.start();
  await eventually(() => connections?.replica?.usable === true);
  return broker;
}

/** How often a server has run the script that reads history: no other script of this test asks for a TTL, a heartbeat's neither. */
async function readsRun(server: RedisServer): Promise<number> {
  const stats = await asked(server, (client) => client.info("commandstats"));
  return Number(/cmdstat_ttl:calls=(\d+)/.exec(stats)?.[1] ?? 0);
}

async function topicsAt(server: RedisServer): Promise<number> {
  const topics = (await asked(server, (client) => client.call("PUBSUB", "SHARDCHANNELS", "*:channel:*"))) as string[];
  return topics.length;
}

async function copied(): Promise<void> {
  await eventually(async () => (await asked(primary, (client) => client.wait(1, 1_000))) === 1);
}

test("READ-1: the replica serves subscriptions and history, the primary serves positions", async () => {
  const broker = await startBroker();
  await broker.follow({ kind: "channel", name: channel });
  expect([await topicsAt(primary), await topicsAt(replica)]).toEqual([0, 1]);
  const received: number[] = [];
  broker.listen({
    onPublication: (_channel, _epoch, { offset }) => void received.push(offset),
    onEphemeral: () => undefined,
    onUserMessage: () => undefined,
    onRestored: () => undefined,
  });
  let reaching: Position = { epoch: "", offset: 0 };
  for (let n = 1; n <= 5; n++) {
    reaching = (await broker.publish({ channel, event: "n", data: String(n), retention })).position;
  }
  await eventually(() => received.length === 5);
  expect(received).toEqual([1, 2, 3, 4, 5]);

  const before = [await readsRun(primary), await readsRun(replica)];
  const query: HistoryQuery = { channel, retention, after: 2, epoch: reaching.epoch, limit: 10, maxBytes: 1 << 20 };
  const slice = await broker.readHistory({ ...query, reaching });
  expect(slice.publications.map(({ data }) => data)).toEqual(["3", "4", "5"]);
  expect([await readsRun(primary), await readsRun(replica)]).toEqual([before[0], (before[1] ?? 0) + 1]);
  expect((await broker.readHistory({ ...query, limit: 0, reaching })).position).toEqual(reaching);
  expect((await broker.readHistory(query)).position).toEqual(reaching);
  expect([await readsRun(primary), await readsRun(replica)]).toEqual([(before[0] ?? 0) + 2, (before[1] ?? 0) + 1]);
});

test("READ-2: the primary answers for a replica that is behind, refuses or has another epoch", async () => {
  const broker = await startBroker();
  const publish = async (data: string) => (await broker.publish({ channel, event: "n", data, retention })).position;
  const first = await publish("1");
  await copied();
  link.set("stalled");
  const second = await publish("2");
  const query: HistoryQuery = { channel, retention, after: 0, epoch: first.epoch, limit: 10, maxBytes: 1 << 20 };
  const behind = await broker.readHistory({ ...query, reaching: second });
  expect([behind.position, behind.publications.length]).toEqual([second, 2]);
  // Enough for a client at the first publication, but not for one that has seen the second.
  const ahead = await broker.readHistory({ ...query, after: 2, reaching: first });
  expect([ahead.position, ahead.publications.length]).toEqual([second, 0]);
  const unknown = await broker.readHistory({ ...query, epoch: "other", reaching: first });
  expect(unknown.position).toEqual(second);
  link.set("open");
  await copied();
  await asked(replica, (client) => client.config("SET", "replica-serve-stale-data", "no"));
  link.set("closed");
  await eventually(async () => (await asked(replica, (client) => client.get("any").catch(String))) !== null);
  const refused = await broker.readHistory({ ...query, reaching: second });
  expect(refused.publications.length).toBe(2);
});

test("READ-3: a stalled or dead replica causes no loss, no duplicate and no resync", async () => {
  fleet = await startFleet({ target: await startServers(), gateways: 2 });
  const { api, log } = fleet;
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) await client.subscribe(channel);
  // Connected before: while its subscriptions move to the primary, a node takes no new session.
  const returning = await Promise.all(Array.from({ length: 4 }, () => connectClient(fleet?.urls[0] ?? "")));
  expect([await topicsAt(primary), await topicsAt(replica)]).toEqual([0, 1]);
  const published: number[] = [];
  const publish = async (): Promise<Position> => {
    const data = published.length + 1;
    const answer = await api("POST", "/v1/publish", { channel, event: "n", data });
    expect(answer.status, answer.text).toBe(200);
    published.push(data);
    return answer.body as unknown as Position;
  };
  const arrived = async (): Promise<void> => {
    for (const client of clients) await client.next(({ data }) => data === published.length);
    // A client that returns to the channel now recovers correctly too.
    const returned = returning.pop();
    const ack = await returned?.subscribe(channel, { ...first, offset: 1 });
    expect([ack?.recovered, ack?.publications.map(({ data }) => data)]).toEqual([true, published.slice(1)]);
    returned?.socket.disconnect();
  };
  const first = await publish();
  for (let n = 0; n < 5; n++) await publish();
  await arrived();

  link.set("stalled");
  for (let n = 0; n < 5; n++) await publish();
  await arrived();
  await eventually(async () => (await topicsAt(primary)) === 1);
  link.set("open");
  for (let n = 0; n < 5; n++) await publish();
  await arrived();
  await replica.kill();
  for (let n = 0; n < 5; n++) await publish();
  await arrived();
  for (const client of clients) {
    expect(client.received.map(({ data }) => data)).toEqual(published);
  }
  expect(log()).toContain("reconnecting");
});

test("READ-4: a node that starts without its replica uses the primary and takes clients", async () => {
  const target = await startServers();
  await replica.kill();
  fleet = await startFleet({ target });
  const { adminDoor } = fleet.gateways[0] ?? {};
  const ready = await fetch(`http://127.0.0.1:${adminDoor?.port}/readyz`);
  expect(((await ready.json()) as { checks: { broker: string } }).checks.broker).toBe("ok");
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  await fleet.api("POST", "/v1/publish", { channel, event: "moved", data: 1 });
  await client.next((received) => received.event === "moved");
});
