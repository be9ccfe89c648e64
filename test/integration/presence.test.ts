import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { maxListedSessions } from "../../shared/protocol/limits.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Answer, closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
let one: string;
let two: string;

beforeAll(async () => {
  redis = await startRedis();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    rules: { namespaces: { room: { presence: true, joinLeave: true, access: "user" }, quiet: { access: "user" } } },
  });
  [one = "", two = ""] = fleet.urls;
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

async function members(client: StockClient, channel: string): Promise<unknown> {
  return (await client.request("sync:presence", { channel }))["members"];
}

function connectionsOf(listed: unknown): number {
  return (listed as { connections: number }[]).reduce((sum, { connections }) => sum + connections, 0);
}

function told(client: StockClient): [string, unknown][] {
  return client.received
    .filter(({ event }) => /^sync:(join|leave)$/.test(event))
    .map(({ event, data }) => [event, data]);
}

test("PRES-1: an info of more than 1 KiB is left out of presence", async () => {
  const channel = "room:info";
  const without = JSON.stringify({ name: "" }).length;
  for (const [user, bytes] of Object.entries({ fits: 1_024, larger: 1_025 })) {
    const client = await connectClient(one, { sub: user, info: { name: "x".repeat(bytes - without) } });
    await client.subscribe(channel);
    const listed = (await members(client, channel)) as { user: string; info?: unknown }[];
    expect(listed.find((each) => each.user === user)?.info !== undefined, user).toBe(user === "fits");
  }
});

test("PRES-1: every node and the API list each user once, and sessions get joins and leaves", async () => {
  const channel = "room:1";
  const ada = await connectClient(one, { sub: "ada", info: { name: "Ada" } });
  await ada.subscribe(channel);
  const [grace, again] = [await connectClient(two, { sub: "grace" }), await connectClient(one, { sub: "grace" })];
  await grace.subscribe(channel);
  await again.subscribe(channel);
  const all = [
    { user: "ada", connections: 1, info: { name: "Ada" } },
    { user: "grace", connections: 2 },
  ];
  for (const client of [ada, grace]) {
    await eventually(async () => connectionsOf(await members(client, channel)) === 3);
    const listed = (await members(client, channel)) as { user: string }[];
    expect(listed.toSorted((a, b) => a.user.localeCompare(b.user))).toEqual(all);
  }
  expect((await fleet.api("GET", `/v1/channels/${channel}/presence`)).body["members"]).toHaveLength(2);
  again.socket.disconnect();
  await eventually(async () => ((await members(ada, channel)) as { connections: number }[])[1]?.connections === 1);
  await grace.request("sync:unsubscribe", { channel });
  await ada.next((received) => received.event === "sync:leave");
  expect(told(ada)).toEqual([
    ["sync:join", { channel, user: "ada", info: { name: "Ada" } }],
    ["sync:join", { channel, user: "grace" }],
    ["sync:leave", { channel, user: "grace" }],
  ]);
});

test("PRES-2: a session that resumes on another node counts once, without a leave or join", async () => {
  const channel = "room:2";
  const watcher = await connectClient(one, { sub: "watcher" });
  await watcher.subscribe(channel);
  const before = await connectClient(one, { sub: "mover" });
  await before.subscribe(channel);
  const after = await connectClient(two, {}, { token: undefined, resume: before.welcome.resumeToken });
  await after.subscribe(channel);
  await before.disconnected;
  await eventually(async () => (await metricOf(fleet.gateways[0], "sessions")) === 1);
  await watcher.subscribe(channel);
  await eventually(async () => connectionsOf(await members(watcher, channel)) === 2);
  const counted = ((await members(watcher, channel)) as { connections: number }[]).map((member) => member.connections);
  expect(counted).toEqual([1, 1]);
  const aboutMover = told(watcher).filter(([, data]) => (data as { user: string }).user === "mover");
  expect(aboutMover.map(([event]) => event)).toEqual(["sync:join"]);
});

test("PRES-2: a session whose connection broke leaves unless it resumes in time", async () => {
  const channel = "room:5";
  const watcher = await connectClient(one, { sub: "watcher" });
  await watcher.subscribe(channel);
  const gone = await connectClient(two, { sub: "gone" });
  await gone.subscribe(channel);
  await eventually(async () => connectionsOf(await members(watcher, channel)) === 2);
  gone.socket.io.engine.close();
  expect(await members(watcher, channel)).toHaveLength(2);
  await watcher.next((received) => received.event === "sync:leave");
  expect(await members(watcher, channel)).toHaveLength(1);
});

test("PRES-3: in a large channel the answer is the number of users", async () => {
  const channel = "room:3";
  const clients = await Promise.all(
    Array.from({ length: maxListedSessions + 1 }, (_, i) =>
      connectClient(i % 2 ? one : two, { sub: `user-${i % 150}` }),
    ),
  );
  await Promise.all(clients.map((client) => client.subscribe(channel)));
  const [first] = clients;
  const asked = async (): Promise<Answer | undefined> => first?.request("sync:presence", { channel });
  // Those of the other node enter a moment after their subscribe is answered.
  await eventually(async () => (await asked())?.["count"] !== undefined);
  expect(await asked()).toEqual({ ok: true, count: 150 });
  clients.pop()?.socket.disconnect();
  await eventually(async () => (await asked())?.["members"] !== undefined);
});

test("PRES-5: presence needs the subscription, and a namespace with presence", async () => {
  const client = await connectClient(one);
  const without = await client.request("sync:presence", { channel: "room:4" });
  expect(without.error?.code).toBe("not_subscribed");
  await client.subscribe("quiet:1");
  const off = await client.request("sync:presence", { channel: "quiet:1" });
  expect(off.error).toMatchObject({ code: "invalid_request" });
  const api = await fleet.api("GET", "/v1/channels/quiet:1/presence");
  expect([api.status, api.body["code"]]).toEqual([400, "invalid_request"]);
});
