/** A node that drains while the other nodes keep running. */
import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import type { DrainReport } from "../../shared/nodes/contract.ts";
import type { Disconnect, Drain } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { MovingClient } from "../support/moving-client.ts";
import { nodeReport } from "../support/node-reports.ts";
import { RawClient } from "../support/raw-client.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat, type Repetition } from "../support/repeat.ts";
import { type Answer, closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

let channel: string;
let redis: RedisServer;
let service: HttpService;
let fleet: Fleet;
let one: string;
let two: string;

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
});
beforeEach(() => {
  channel = `room:${randomUUID()}`;
});
afterEach(async () => {
  closeClients();
  await fleet.stop();
});
afterAll(async () => {
  await service.stop();
  await redis.stop();
});

/**
 * @param options.drainSeconds a quarter of them is for the balancer; the clients move long before the deadline.
 * @param options.takesPerSecond admissions of the second node: the fewer, the further are move times apart.
 */
async function start({ drainSeconds = 8, takesPerSecond = 2_000 } = {}): Promise<void> {
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { GATEWAY_DRAIN_SECONDS: String(drainSeconds), GATEWAY_ADMISSIONS_PER_SECOND: "2000" },
    gatewaySettings: [{}, { GATEWAY_ADMISSIONS_PER_SECOND: String(takesPerSecond) }],
    rules: {
      namespaces: { room: { presence: true, joinLeave: true, access: "user", historySize: 1000 } },
      services: { board: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ event: "card.*", service: "board", path: "/events/{event}", mode: "call" }],
    },
  });
  [one = "", two = ""] = fleet.urls;
}

/** What the first gateway has logged at the end. */
function report(): DrainReport {
  const line = fleet
    .log()
    .split("\n")
    .find((candidate) => candidate.includes('"msg":"drained"'));
  return JSON.parse(line ?? "{}") as DrainReport;
}

/** @returns the offsets. */
function keepPublishing(): Repetition<number> {
  return repeat(async (offsets) => {
    const answer = await fleet.api("POST", "/v1/publish", { channel, event: "tick", data: offsets.length });
    return answer.body["offset"] as number;
  });
}

/** @returns what was sent. */
function keepSending(user: string): Repetition<number> {
  return repeat(async (sent) => {
    await fleet.api("POST", `/v1/users/${user}/send`, { event: "note", data: sent.length });
    return sent.length;
  });
}

function keepCalling(client: MovingClient): Repetition<Answer> {
  return repeat(async () => client.call("card.look", {}));
}

test("MOVE-1: a moving client misses and doubles nothing, gets its answers, and is never seen leaving", async () => {
  await start();
  const watcher = await connectClient(two, { sub: "watcher" });
  await watcher.subscribe(channel);
  const movers = await Promise.all(
    Array.from({ length: 10 }, async (_, at) =>
      MovingClient.connect({ url: one, elsewhere: () => two, channel, claims: { sub: `mover-${at}` } }),
    ),
  );
  const [mover] = movers;
  if (!mover) throw new Error("there is one");
  await eventually(() => watcher.received.filter(({ event }) => event === "sync:join").length === 11);
  let answerLate = (): void => undefined;
  service.answer = ({ path }, response) => {
    if (path.endsWith("card.move")) answerLate = () => answerJson(response, { late: true });
    else setTimeout(() => answerJson(response, {}), 50);
  };
  const publishing = keepPublishing();
  const calling = movers.slice(1, 4).map((caller) => keepCalling(caller));
  const sending = keepSending("mover-0");
  const call = mover.call("card.move", {});
  await eventually(() => service.requests.some(({ path }) => path.endsWith("card.move")));
  const first = mover.connection;
  const stopped = fleet.gateways[0]?.stop();
  // The second connection opens while the call is pending on the first.
  await eventually(() => mover.connection !== first);
  answerLate();
  await Promise.all(movers.map(async ({ moved }) => moved));
  expect(await call).toMatchObject({ ok: true, data: { late: true } });
  await stopped;
  const last = (await publishing.stop()).at(-1) ?? 0;
  const sent = await sending.stop();
  const answers = (await Promise.all(calling.map(async (calls) => calls.stop()))).flat();
  expect(answers.length).toBeGreaterThan(10);
  expect(answers.filter(({ ok }) => !ok)).toEqual([]);
  const all = Array.from({ length: last }, (_, at) => at + 1);
  await eventually(() => movers.every(({ offsets }) => offsets.at(-1) === last));
  for (const { offsets } of movers) expect(offsets).toEqual(all);
  await eventually(() => mover.userMessages.length >= sent.length);
  expect(mover.userMessages).toEqual(sent);
  expect(watcher.received.filter(({ event }) => event === "sync:leave")).toEqual([]);
  expect(watcher.received.filter(({ event }) => event === "sync:join")).toHaveLength(11);
  expect(report()).toMatchObject({ sessions: 10, moved: 10, closed: 0, forced: 0, lost: 0, left: 0 });
  const { members } = (await fleet.api("GET", `/v1/channels/${channel}/presence`)).body as { members: object[] };
  expect(members).toHaveLength(11);
});

test("MOVE-4: the application subscribes a moving client on its newer connection only", async () => {
  await start();
  const old = await connectClient(one, { sub: "mover" }, { moves: true });
  const stopped = fleet.gateways[0]?.stop();
  await old.next(({ event }) => event === "sync:drain");
  const newer = await connectClient(two, {}, { token: undefined, resume: old.welcome.resumeToken, moves: true });
  await old.next(({ event }) => event === "sync:moved");
  expect((await fleet.api("POST", "/v1/users/mover/subscribe", { channel })).status).toBe(202);
  await newer.next(({ event }) => event === "sync:subscribed");
  await fleet.api("POST", "/v1/publish", { channel, event: "tick", data: 1 });
  await newer.next(({ event }) => event === "tick");
  expect(await old.request("sync:presence", { channel })).toMatchObject({ error: { code: "not_subscribed" } });
  expect(old.received.filter(({ event }) => event === "sync:subscribed")).toEqual([]);
  old.socket.disconnect();
  await stopped;
  expect(report()).toMatchObject({ sessions: 1, moved: 1 });
});

test("DRAIN-1: a stock client is served until its move time, gets its answers, and recovers elsewhere", async () => {
  await start({ drainSeconds: 12, takesPerSecond: 40 });
  const held: (() => void)[] = [];
  service.answer = ({ path }, response) => {
    if (path.endsWith("card.move")) held.push(() => answerJson(response, { late: true }));
    else answerJson(response, {});
  };
  const clients = await Promise.all(
    Array.from({ length: 20 }, async (_, at) => connectClient(one, { sub: `stock-${at}` })),
  );
  const positions = await Promise.all(clients.map(async (client) => (await client.subscribe(channel)).position));
  const answers = Promise.allSettled(clients.map(async (client) => client.request("card.move", {})));
  await eventually(() => held.length === clients.length);
  const publishing = keepPublishing();
  const stopped = fleet.gateways[0]?.stop();
  const orders = await Promise.all(
    clients.map(async (client) => (await client.next(({ event }) => event === "sync:drain")).data as Drain),
  );
  const orderedAt = performance.now();
  for (const { reconnectInMs, deadlineInMs } of orders) {
    expect(reconnectInMs).toBeGreaterThanOrEqual(0);
    expect(reconnectInMs).toBeLessThanOrEqual(9_600);
    expect(deadlineInMs).toBeGreaterThan(reconnectInMs);
  }
  const moveTimes = orders.map(({ reconnectInMs }) => reconnectInMs);
  expect(new Set(moveTimes).size).toBeGreaterThan(3);
  const lastMove = Math.max(...moveTimes);
  expect(await clients[moveTimes.indexOf(lastMove)]?.request("card.look", {})).toMatchObject({ ok: true });
  // The answers come after the move time of all clients.
  await eventually(() => performance.now() > orderedAt + lastMove);
  for (const answer of held) answer();
  for (const answer of await answers) expect(answer).toMatchObject({ value: { ok: true, data: { late: true } } });
  await Promise.all(
    clients.map(async (client, at) => {
      expect(await client.disconnected).toBe("transport close");
      const told = client.received.find(({ event }) => event === "sync:disconnect")?.data as Disconnect;
      expect(told).toMatchObject({ code: "draining", reconnect: true });
      const after = await connectClient(two, {}, { token: undefined, resume: client.welcome.resumeToken });
      expect(after.welcome).toMatchObject({ resumed: true, sessionId: client.welcome.sessionId });
      const seen = client.received.flatMap(({ meta }) => (meta as { offset?: number } | undefined)?.offset ?? []);
      const position = { epoch: positions[at]?.epoch ?? "", offset: seen.at(-1) ?? 0 };
      const ack = await after.subscribe(channel, position);
      expect(ack.recovered).toBe(true);
      const recovered = [...seen, ...ack.publications.map(({ offset }) => offset)];
      expect(recovered).toEqual(Array.from({ length: ack.position.offset }, (_, offset) => offset + 1));
    }),
  );
  await publishing.stop();
  await stopped;
  expect(report()).toMatchObject({ sessions: 20, moved: 0, closed: 20, forced: 0, lost: 0, left: 0 });
  expect(fleet.log()).toContain('"msg":"draining"');
});

test("DRAIN-2: open sessions are closed at the deadline; broken or unread connections count as lost", async () => {
  await start({ drainSeconds: 3 });
  const frozen = await RawClient.connect(new URL(one), await userToken({ sub: "frozen" }), { moves: true });
  frozen.socket.pause();
  const unread = await RawClient.connect(new URL(one), await userToken({ sub: "unread" }));
  unread.socket.pause();
  const broken = await RawClient.connect(new URL(one), await userToken({ sub: "broken" }), { moves: true });
  const leaver = await connectClient(one, { sub: "leaver" });
  const stopped = fleet.gateways[0]?.stop();
  broken.socket.resetAndDestroy();
  leaver.socket.disconnect();
  await stopped;
  expect(report()).toMatchObject({ sessions: 4, moved: 0, closed: 0, forced: 1, lost: 2, left: 1 });
  for (const { socket } of [frozen, unread]) socket.destroy();
});

test("DRAIN-3: a draining node is not ready and refuses connections; without sessions it stops at once", async () => {
  await start();
  const [first] = fleet.gateways;
  const client = await connectClient(one);
  const stopped = first?.stop();
  expect(await refusedConnect(one, { token: await userToken() })).toMatchObject({ code: "draining", retryable: true });
  const ready = await fetch(`http://127.0.0.1:${first?.adminDoor.port}/readyz`);
  expect([ready.status, await ready.json()]).toMatchObject([503, { checks: { accepting: "fail" } }]);
  client.socket.disconnect();
  await stopped;
  expect(report()).toMatchObject({ sessions: 1, left: 1 });
});

test("DRAIN-7: an order through the API drains a node that keeps running, and its report shows", async () => {
  await start();
  interface Shown {
    node: string;
    state: string;
    drain?: DrainReport;
  }
  const shown = async (): Promise<Shown[]> =>
    ((await fleet.api("GET", "/v1/nodes")).body as { nodes: Shown[] }).nodes.map(({ node, state, drain }) => ({
      node,
      state,
      ...(drain && { drain }),
    }));
  const stock = await connectClient(one, { sub: "stock" });
  const mover = await MovingClient.connect({ url: one, elsewhere: () => two, channel, claims: { sub: "mover" } });
  expect((await fleet.api("POST", "/v1/nodes/node-1/drain")).status).toBe(202);
  await Promise.all([stock.disconnected, mover.moved]);
  await eventually(async () => (await shown())[0]?.drain?.endedAt !== undefined);
  expect(await shown()).toEqual([
    {
      node: "node-1",
      state: "draining",
      drain: {
        startedAt: expect.any(Number) as number,
        endedAt: expect.any(Number) as number,
        ...{ sessions: 2, moved: 1, closed: 1, forced: 0, lost: 0, left: 0 },
      },
    },
    { node: "node-2", state: "ready" },
  ]);
  expect(await refusedConnect(one, { token: await userToken() })).toMatchObject({ code: "draining" });
  const [first] = fleet.gateways;
  if (!first) throw new Error("there is one");
  expect(await metricOf(first, 'drained_sessions_total{outcome="moved"}')).toBe(1);
  expect(await metricOf(first, 'moves_asked_total{cause="drain"}')).toBe(2);
});

test("DRAIN-9: a drain that is called off, also after its end, leaves a node that takes sessions again", async () => {
  // Reconnect times begin after 5 s.
  await start({ drainSeconds: 60 });
  interface Shown {
    state: string;
    drain?: DrainReport;
  }
  const node = async (): Promise<Shown> => {
    const [first] = ((await fleet.api("GET", "/v1/nodes")).body as { nodes: Shown[] }).nodes;
    return first ?? { state: "gone" };
  };
  const clients = await Promise.all(
    ["stock", "mover"].map(async (sub) => connectClient(one, { sub }, { moves: true })),
  );
  expect((await fleet.api("POST", "/v1/nodes/node-1/drain")).status).toBe(202);
  await eventually(async () => (await node()).state === "draining");
  expect(await refusedConnect(one, { token: await userToken() })).toMatchObject({ code: "draining" });
  expect((await fleet.api("POST", "/v1/nodes/node-1/undrain")).status).toBe(202);
  await eventually(async () => (await node()).state === "ready");
  expect(await node()).not.toHaveProperty("drain");
  expect(fleet.log()).toContain("drain called off");
  clients.push(await connectClient(one, { sub: "later" }));
  const ready = await fetch(`http://127.0.0.1:${fleet.gateways[0]?.adminDoor.port}/readyz`);
  expect(ready.status).toBe(200);
  for (const { socket } of clients) socket.disconnect();
  await fleet.api("POST", "/v1/nodes/node-1/drain");
  await eventually(async () => (await node()).drain?.endedAt !== undefined);
  await fleet.api("POST", "/v1/nodes/node-1/undrain");
  await eventually(async () => (await node()).state === "ready");
  const last = await connectClient(one, { sub: "last" });
  // It has been ordered to stay, and stops all the same.
  const stopped = fleet.gateways[0]?.stop();
  last.socket.disconnect();
  await stopped;
});

test("DRAIN-5: a session sent to a node that disappears is sent to another one", async () => {
  const nodeRegistry = new MemoryNodeRegistry();
  const url = (node: string): string => `https://${node}.example`;
  const own = await startFleet({
    nodeRegistry,
    environment: { GATEWAY_DRAIN_SECONDS: "30", PUBLIC_URL: url("own") },
  });
  onTestFinished(() => own.stop());
  const request = { budgetPerSecond: 100_000, heldPerSecond: undefined };
  for (const node of ["left", "right"])
    await nodeRegistry.report(nodeReport({ node, instance: node, url: url(node) }), request);
  const client = await RawClient.connect(new URL(own.urls[0] ?? ""), await userToken(), { moves: true });
  const told: Drain[] = [];
  client.onEvent = (event, data) => void (event === "sync:drain" && told.push(data as Drain));
  const before = Date.now();
  expect(await nodeRegistry.order("node-1", "drain")).toBe(1);
  await eventually(() => told.length === 1);
  const [gone, stays] = told[0]?.url === url("left") ? ["left", "right"] : ["right", "left"];
  await nodeRegistry.leave(gone ?? "");
  await eventually(() => told.length === 2);
  expect(told[1]?.url).toBe(url(stays ?? ""));
  expect((await nodeRegistry.nodes()).find(({ node }) => node === "node-1")?.drain?.startedAt).toBeGreaterThanOrEqual(
    before,
  );
  client.socket.destroy();
});
