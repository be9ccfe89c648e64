/** Sessions and presence while nodes pause, and while Redis is away. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { io } from "socket.io-client";
import { allHave } from "../support/broker-health.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, refusedConnect, type StockClient, userToken } from "../support/stock-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const rules = { namespaces: { room: { presence: true, joinLeave: true, access: "user" } } };
let redis: RedisServer;
let link: TcpProxy;
/** Its link to Redis can break. */
let cut: Fleet;
let whole: Fleet;
let one: string;
let two: string;

beforeEach(async () => {
  redis = await startRedis({ appendOnly: true });
  link = await startTcpProxy(redis.port);
  whole = await startFleet({ target: { kind: "standalone", url: redis.url }, rules });
  cut = await startFleet({ target: { kind: "standalone", url: `redis://127.0.0.1:${link.port}` } });
  await eventually(async () => (await metricOf(cut.gateways[0], "rules_version")) === 1);
  [one = ""] = cut.urls;
  [two = ""] = whole.urls;
});
afterEach(async () => {
  closeClients();
  await cut.stop();
  await whole.stop();
  await link.stop();
  await redis.stop();
});

async function members(channel: string): Promise<{ user: string; connections: number }[]> {
  const answer = await whole.api("GET", `/v1/channels/${channel}/presence`);
  return answer.body["members"] as { user: string; connections: number }[];
}

async function resume(url: string, before: StockClient): Promise<StockClient> {
  return connectClient(url, {}, { token: undefined, resume: before.welcome.resumeToken });
}

test("RES-7: sessions resume without Redis; replaced and revoked ones end once it is back", async () => {
  const [stays, moves, revoked] = await Promise.all([
    connectClient(one, { sub: "stays" }),
    connectClient(one, { sub: "moves" }),
    connectClient(one, { sub: "revoked" }),
  ]);
  link.set("closed");
  link.cut();
  await eventually(() => cut.log().includes("redis connection"));
  const again = await resume(one, stays);
  expect(again.welcome).toMatchObject({ resumed: true, sessionId: stays.welcome.sessionId });
  expect(await stays.disconnected).toBe("io server disconnect");
  const moved = await resume(two, moves);
  expect(moved.welcome).toMatchObject({ resumed: true, sessionId: moves.welcome.sessionId });
  await whole.api("POST", "/v1/users/revoked/disconnect", {});
  expect([moves.socket.connected, revoked.socket.connected]).toEqual([true, true]);

  link.heal();
  const codes = await Promise.all(
    [moves, revoked].map(async (client) => {
      const told = await client.next((received) => received.event === "sync:disconnect");
      return (told.data as { code: string }).code;
    }),
  );
  expect(codes).toEqual(["replaced", "revoked"]);
  expect([again.socket.connected, moved.socket.connected]).toEqual([true, true]);
  // A message to a user is sent once, and the node may not follow this one's topic yet.
  await eventually(async () => {
    await whole.api("POST", "/v1/users/stays/send", { event: "hello", data: 1 });
    return again.received.some(({ event }) => event === "hello");
  });
});

test("RES-7: a revoked session that resumes without Redis ends once it is back", async () => {
  const before = await connectClient(two, { sub: "revoked" });
  link.set("closed");
  link.cut();
  await eventually(() => cut.log().includes("redis connection"));
  await whole.api("POST", "/v1/users/revoked/disconnect", {});
  await before.disconnected;
  const again = await resume(one, before);
  expect(again.welcome.resumed).toBe(true);
  expect((await refusedConnect(two, { resume: again.welcome.resumeToken })).code).toBe("unauthenticated");
  link.heal();
  const told = await again.next((received) => received.event === "sync:disconnect");
  expect(told.data).toMatchObject({ code: "revoked", reconnect: false });
});

test("RES-1: of two connections that resume one session without Redis, one keeps it", async () => {
  const before = await connectClient(one, { sub: "twice" });
  link.set("closed");
  link.cut();
  await eventually(() => cut.log().includes("redis connection"));
  const both = await Promise.all([resume(one, before), resume(one, before)]);
  await eventually(() => both.filter(({ socket }) => socket.connected).length === 1);
  link.heal();
  await eventually(async () => {
    const { sessions } = (await whole.api("GET", "/v1/users/twice/sessions")).body as { sessions: unknown[] };
    return sessions.length === 1;
  });
  expect(both.filter(({ socket }) => socket.connected)).toHaveLength(1);
});

test("RES-1: RED-3: a client that resumes while Redis hangs keeps its session when its earlier try fails", async () => {
  // Another device of the user: the node follows the user's topic already.
  await connectClient(one, { sub: "again" });
  const before = await connectClient(one, { sub: "again" });
  link.set("stalled");
  const auth = { token: await userToken({ sub: "again" }), resume: before.welcome.resumeToken };
  const gone = io(one, { transports: ["websocket"], auth });
  await eventually(async () => (await metricOf(cut.gateways[0], "sessions")) === 3);
  gone.disconnect();
  before.socket.disconnect();
  // Claims fail at once from now on.
  await allHave(cut, "200 degraded");
  const again = await resume(one, before);
  expect(again.welcome).toMatchObject({ resumed: true, sessionId: before.welcome.sessionId });
  // The claim of the connection that has closed gets no answer.
  await eventually(async () => (await metricOf(cut.gateways[0], 'connects_total{outcome="auth_unavailable"}')) === 1);
  const answer = await Promise.race([again.disconnected, again.request("sync:unsubscribe", { channel: "board:1" })]);
  expect(answer).toMatchObject({ error: { code: "not_subscribed" } });
  expect(again.received).toEqual([]);
});

test("END-1: a connection that closes during its claim leaves no session in the store", async () => {
  await connectClient(one, { sub: "brief" });
  link.set("stalled");
  const gone = io(one, { transports: ["websocket"], auth: { token: await userToken({ sub: "brief" }) } });
  await eventually(async () => (await metricOf(cut.gateways[0], "sessions")) === 2);
  gone.disconnect();
  await eventually(async () => (await metricOf(cut.gateways[0], "sessions")) === 1);
  link.heal();
  // A node whose commands waited for long takes no new session before they are answered.
  await allHave(cut, "200 ok");
  // Notices from before this one have arrived by then.
  const after = await connectClient(one, { sub: "brief" });
  const listed = async (): Promise<number> =>
    ((await whole.api("GET", "/v1/users/brief/sessions")).body["sessions"] as unknown[]).length;
  await eventually(async () => (await listed()) === 2);
  after.socket.disconnect();
  await eventually(async () => (await listed()) === 1);
});

test("GRANT-2: a grant withdrawn while a node is cut off ends once the node is back", async () => {
  const client = await connectClient(one, { sub: "guest", channels: [] });
  await whole.api("POST", "/v1/users/guest/subscribe", { channel: "board:9" });
  await client.next((received) => received.event === "sync:subscribed");
  link.set("closed");
  link.cut();
  await eventually(() => cut.log().includes("redis connection"));
  await whole.api("POST", "/v1/users/guest/unsubscribe", { channel: "board:9" });
  expect(client.received.some((received) => received.event === "sync:revoked")).toBe(false);
  link.heal();
  await client.next((received) => received.event === "sync:revoked");
});

test("PRES-4: members of a node that is cut off leave with its lease, and return with the node", async () => {
  const watcher = await connectClient(two, { sub: "watcher" });
  await watcher.subscribe("room:1");
  const away = await connectClient(one, { sub: "away" });
  await away.subscribe("room:1");
  await eventually(async () => (await members("room:1")).length === 2);
  link.set("stalled");
  await eventually(async () => (await members("room:1")).length === 1);
  await watcher.next((received) => received.event === "sync:leave");
  link.heal();
  const about = (): string[] =>
    watcher.received.filter(({ data }) => (data as { user?: string }).user === "away").map(({ event }) => event);
  await eventually(() => about().length === 3);
  expect(about()).toEqual(["sync:join", "sync:leave", "sync:join"]);
  expect((await members("room:1")).map((member) => member.connections)).toEqual([1, 1]);
});

test("PRES-6: a Redis that was away, or lost its data, gets all members again, and no others", async () => {
  const watcher = await connectClient(two, { sub: "watcher" });
  const [stays, leaves] = [await connectClient(one, { sub: "stays" }), await connectClient(one, { sub: "leaves" })];
  for (const client of [watcher, stays, leaves]) await client.subscribe("room:1");
  await redis.kill();
  leaves.socket.disconnect();
  await eventually(async () => (await metricOf(cut.gateways[0], "sessions")) === 1);
  await redis.restart();
  const users = async (): Promise<string[] | undefined> =>
    (await members("room:1"))?.map(({ user }) => user).toSorted();
  await eventually(async () => JSON.stringify(await users()) === '["stays","watcher"]');
  expect(
    watcher.received.some(({ event, data }) => event === "sync:leave" && JSON.stringify(data).includes("stays")),
  ).toBe(false);
});

test("PRES-4: after two of three nodes are killed, resumed sessions count once and others leave", async () => {
  const scenario = spawnProcess(process.execPath, ["loadtest/main.ts", "node-loss", "--json"], {
    env: { SESSIONS: "90" },
  });
  await scenario.exited;
  // Both streams: a last line of progress may follow the report.
  const printed = scenario.output();
  const report = JSON.parse(printed.slice(printed.indexOf("{"), printed.lastIndexOf("}") + 1)) as {
    figures: Record<string, number>;
  };
  expect(report.figures).toMatchObject({ returned: 75, resumedWithTheirSession: 75, countedTwice: 0 });
});
