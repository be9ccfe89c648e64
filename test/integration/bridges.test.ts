/** Bridges between Tidegate and fleets of plain Socket.IO servers: real Redis, real servers, stock clients on both sides. */
import { Emitter } from "@socket.io/redis-emitter";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { changesOf, pullAll } from "../support/change-puller.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import {
  connectOldClient,
  type OldAdapter,
  type OldClient,
  type OldServer,
  openRedis,
  startOldServer,
} from "../support/old-fleet.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const variable = "env:LEGACY_REDIS_URL";

/** A bridge of that name has rooms `NAME-…` and channels `NAME:…`. */
function roomsOf(name: string): Record<string, string> {
  return { [`${name}-{id}`]: `${name}:{id}` };
}

const rules = {
  namespaces: { default: { changes: true } },
  bridges: {
    board: { redis: variable, adapter: "classic", rooms: roomsOf("board") },
    inward: { redis: variable, adapter: "classic", rooms: roomsOf("inward"), direction: "in" },
    sharded: { redis: variable, adapter: "sharded", key: "sharded", rooms: roomsOf("sharded") },
    any: { redis: variable, adapter: "sharded", key: "any", rooms: { "{id}": "any:{id}" } },
    dynamic: { redis: variable, adapter: "sharded", key: "dynamic", rooms: roomsOf("dynamic") },
    streams: { redis: variable, adapter: "streams", key: "streams", rooms: roomsOf("streams") },
    long: { redis: variable, adapter: "streams", key: "long", maxLen: 20_000, rooms: roomsOf("long") },
    limited: { redis: "env:LIMITED_REDIS_URL", adapter: "classic", rooms: roomsOf("limited") },
    link: { redis: "env:LINK_REDIS_URL", adapter: "classic", rooms: roomsOf("link") },
    several: { redis: variable, adapter: "streams", key: "several", rooms: roomsOf("several") },
    wrong: { redis: "env:WRONG_REDIS_URL", adapter: "classic", rooms: roomsOf("wrong") },
    moved: { redis: variable, adapter: "streams", key: "moved", rooms: roomsOf("moved") },
    unset: { redis: "env:UNSET_REDIS_URL", adapter: "classic", rooms: roomsOf("unset"), direction: "in" },
  },
};

let oldRedis: RedisServer;
let link: TcpProxy;
let admin: Redis;
let server: OldServer;
/** Of the bridge `any`, there before it. */
let anyServer: OldServer;
let fleet: Fleet;

beforeAll(async () => {
  oldRedis = await startRedis();
  link = await startTcpProxy(oldRedis.port);
  admin = openRedis(oldRedis.url);
  await admin.acl("SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all");
  server = await startOldServer(oldRedis.url);
  anyServer = await startOldServer(oldRedis.url, "sharded", "any");
  fleet = await startFleet({
    environment: {
      LEGACY_REDIS_URL: oldRedis.url,
      LIMITED_REDIS_URL: oldRedis.url.replace("//", "//limited:secret@"),
      WRONG_REDIS_URL: "http://never-in-a-log",
      LINK_REDIS_URL: oldRedis.url.replace(String(oldRedis.port), String(link.port)),
    },
    rules,
  });
  for (const name of ["board", "inward", "sharded", "streams", "limited", "link"]) await hasState(name, "live");
});
afterEach(() => closeClients());
afterAll(async () => {
  await fleet.stop();
  await server.stop();
  admin.disconnect();
  await link.stop();
  await oldRedis.stop();
});

async function bridge(name: string): Promise<Record<string, unknown>> {
  const { body } = await fleet.api("GET", "/v1/bridges");
  return (body["bridges"] as Record<string, unknown>[]).find((one) => one["name"] === name) ?? {};
}

async function hasState(name: string, state: string): Promise<void> {
  await eventually(async () => (await bridge(name))["state"] === state);
}

/** By the metric: the bridge stores its status less often. */
async function emittedBy(name: string): Promise<number> {
  const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
  const series = new RegExp(
    `^tidegate_bridge_messages_total{bridge="${name}",direction="out",outcome="emitted"} (.+)$`,
    "m",
  );
  return Number(series.exec(text)?.[1] ?? 0);
}

async function publish(channel: string, data: unknown): Promise<void> {
  const answer = await fleet.api("POST", "/v1/publish", { channel, event: "note", data });
  expect(answer.status).toBe(200);
}

async function follow(channel: string): Promise<StockClient> {
  const [url = ""] = fleet.urls;
  const client = await connectClient(url, { channels: ["*"] });
  await client.subscribe(channel);
  return client;
}

const seenBy = ({ received }: StockClient): unknown[] => received.map(({ data }) => data);
const seenByOld = ({ received }: OldClient): unknown[] => received.map(({ args }) => args[0]);

/** Of one sender. */
function from(sender: string, list: readonly unknown[]): unknown[] {
  return list.filter((text) => String(text).startsWith(`${sender} `));
}

/** Emits and publishes in turn. @returns what every client must see, in order for each sender, once. */
async function sendFromBothSides(name: string, key: string, io: OldServer["io"]): Promise<string[]> {
  const emitter = new Emitter(admin, { key });
  const sent: string[] = [];
  for (let n = 0; n < 30; n++) {
    sent.push(`emit ${n}`, `emitter ${n}`, `publish ${n}`);
    io.to(`${name}-1`).emit("note", `emit ${n}`);
    emitter.to(`${name}-1`).emit("note", `emitter ${n}`);
    await publish(`${name}:1`, `publish ${n}`);
  }
  return sent;
}

test.each<[name: string, key: string, adapter: OldAdapter]>([
  ["board", "socket.io", "classic"],
  ["sharded", "sharded", "sharded"],
  ["streams", "streams", "streams"],
])("BRI-2: emits and publications reach the clients of both sides once, in order: %s", async (name, key, adapter) => {
  const servers = [await startOldServer(oldRedis.url, adapter, key), await startOldServer(oldRedis.url, adapter, key)];
  const [one, other] = servers as [OldServer, OldServer];
  const [ada, bob] = await Promise.all([
    connectOldClient(one.url, [`${name}-1`]),
    connectOldClient(other.url, [`${name}-1`]),
  ]);
  const eve = await follow(`${name}:1`);
  // The emitter of the classic adapter.
  const isClassic = adapter === "classic";
  const sent = (await sendFromBothSides(name, key, one.io)).filter((text) => isClassic || !text.startsWith("emitter"));
  for (const seen of [() => seenBy(eve), () => seenByOld(ada), () => seenByOld(bob)]) {
    await eventually(() => seen().length >= sent.length);
    for (const sender of ["emit", "emitter", "publish"]) expect(from(sender, seen())).toEqual(from(sender, sent));
  }
  const logged = changesOf((await pullAll([fleet.apiUrl])).changes, `${name}:1`);
  expect(new Set(logged.map(({ data }) => data))).toEqual(new Set(sent));
  expect(logged).toHaveLength(sent.length);
  for (const each of servers) await each.stop();
});

test("BRI-3: what a bridge emits does not come back, and what it publishes is not emitted again", async () => {
  const ada = await connectOldClient(server.url, ["board-loop"]);
  const eve = await follow("board:loop");
  const before = await emittedBy("board");
  server.io.to("board-loop").emit("note", "from the old side");
  await eventually(() => seenBy(eve).length === 1);
  await publish("board:loop", "from the new side");
  await eventually(() => seenByOld(ada).length === 2);
  // Comes after everything that would have come back.
  server.io.to("board-loop").emit("note", "last");
  await eventually(() => seenBy(eve).length >= 3);
  expect(seenBy(eve)).toEqual(["from the old side", "from the new side", "last"]);
  expect(seenByOld(ada)).toEqual(["from the old side", "from the new side", "last"]);
  await eventually(async () => (await emittedBy("board")) === before + 1);
});

test("BRI-3: a bridge of direction in emits nothing", async () => {
  const ada = await connectOldClient(server.url, ["inward-1", "board-in"]);
  await publish("inward:1", "not emitted");
  await publish("board:in", "emitted");
  await eventually(() => seenByOld(ada).length > 0);
  expect(seenByOld(ada)).toEqual(["emitted"]);
});

test("BRI-5: servers of the old fleet get an answer of the bridge to every request", async () => {
  const other = await startOldServer(oldRedis.url);
  const ada = await connectOldClient(other.url, ["board-requests"]);
  other.io.on("ping", (answer: (text: string) => void) => answer("pong"));
  ada.socket.on("question", (answer: (text: string) => void) => answer("yes"));
  const eve = await follow("board:requests");
  const sockets = await server.io.in("board-requests").fetchSockets();
  expect(sockets.map(({ id }) => id)).toEqual([ada.socket.id]);
  server.io.in("board-requests").socketsJoin("board-joined");
  await eventually(async () => (await server.io.in("board-joined").fetchSockets()).length === 1);
  const answers = await server.io.serverSideEmitWithAck("ping");
  expect(answers.filter((answer: unknown) => answer === "pong")).toEqual(["pong"]);
  expect(answers.filter((answer: unknown) => answer !== "pong").every((answer: unknown) => answer === null)).toBe(true);
  expect(await server.io.to("board-requests").timeout(60_000).emitWithAck("question")).toEqual(["yes"]);
  await eventually(() => eve.received.some(({ event }) => event === "question"));
  await other.stop();
});

test("BRI-5: an emit with an acknowledgement crosses, also beside a stream", async () => {
  const old = await startOldServer(oldRedis.url, "streams", "streams");
  const ada = await connectOldClient(old.url, ["streams-ack"]);
  ada.socket.on("question", (answer: (text: string) => void) => answer("yes"));
  const eve = await follow("streams:ack");
  for (let n = 0; n < 3; n++) {
    old.io.to("streams-ack").emit("note", n);
    expect(await old.io.to("streams-ack").timeout(60_000).emitWithAck("question")).toEqual(["yes"]);
  }
  await eventually(() => eve.received.length === 6);
  expect(seenBy(eve).filter((data) => data !== null)).toEqual([0, 1, 2]);
  await old.stop();
});

test("BRI-6: an emit that no publication can express is refused and counted", async () => {
  const eve = await follow("board:refused");
  const { refused } = await bridge("board");
  const room = server.io.to("board-refused");
  room.emit("note", Buffer.from("binary"));
  room.emit("note", { nested: [new Uint8Array(3)] });
  room.emit("note", "two", "arguments");
  room.emit("a note", "with a space in its name");
  room.emit("note", "x".repeat(65_536));
  room.except("board-other").emit("note", "to all but another room");
  server.io.emit("note", "to everybody");
  room.except("a".repeat(20)).emit("note", "to all but one socket");
  room.emit("nothing");
  await eventually(() => eve.received.length >= 2);
  expect(eve.received.map(({ event, data }) => [event, data])).toEqual([
    ["note", "to all but one socket"],
    ["nothing", null],
  ]);
  await eventually(async () => (await bridge("board"))["refused"] === Number(refused) + 6);
});

test("BRI-6: an emit to several rooms becomes a publication in each of their channels", async () => {
  const [one, two] = [await follow("board:one"), await follow("board:two")];
  server.io.to("board-one").to("unmapped").to("board-two").emit("note", "both");
  await eventually(() => one.received.length + two.received.length === 2);
  expect([seenBy(one), seenBy(two)]).toEqual([["both"], ["both"]]);
});

test("BRI-12: an entry of a stream that is malformed or too large is counted, and the next one is carried", async () => {
  const eve = await follow("streams:bad");
  const { refused } = await bridge("streams");
  const opts = { rooms: ["streams-bad"], except: [] };
  const withPacket = (packet: unknown): string[] => ["data", JSON.stringify({ packet, opts })];
  const note = (data: string): string[] => withPacket({ type: 2, data: ["note", data] });
  const bad = [[], withPacket(null), ["data", "{"], note("x".repeat(1_048_576))];
  for (const fields of [...bad, note("after them")]) {
    await admin.xadd("streams", "*", "uid", "other", "nsp", "/", "type", "3", ...fields);
  }
  await eventually(() => eve.received.length > 0);
  expect(seenBy(eve)).toEqual(["after them"]);
  await eventually(async () => (await bridge("streams"))["refused"] === Number(refused) + bad.length);
});

test("BRI-8: a bridge leaves as many entries in the stream as the old servers do", async () => {
  await hasState("long", "live");
  const adding = admin.pipeline();
  for (let n = 0; n < 15_000; n++) adding.xadd("long", "MAXLEN", "~", 20_000, "*", "nsp", "/other");
  await adding.exec();
  await publish("long:1", "trims the stream");
  await eventually(async () => (await emittedBy("long")) === 1);
  expect(await admin.xlen("long")).toBe(15_001);
});

test("BRI-7: a volatile emit becomes an ephemeral publication", async () => {
  const eve = await follow("board:volatile");
  server.io.to("board-volatile").volatile.emit("typing", "ada");
  await eve.next(({ event }) => event === "typing");
  const { body } = await fleet.api("GET", "/v1/channels/board:volatile/history");
  expect(body["publications"]).toEqual([]);
});

test("BRI-4: a bridge that carries every room joins beside the topics of servers", async () => {
  await hasState("any", "live");
  const eve = await follow("any:1");
  anyServer.io.to("1").emit("note", "crosses");
  await eventually(() => eve.received.length > 0);
  expect(seenBy(eve)).toEqual(["crosses"]);
  await anyServer.stop();
});

test("BRI-10: a fleet that cannot be reached shows in the state, and delays no publication", async () => {
  expect((await fleet.api("GET", "/readyz")).body["checks"]).toMatchObject({ bridges: "degraded" });
  expect(await bridge("unset")).toMatchObject({
    state: "refused",
    lastError: { message: expect.stringContaining("UNSET_REDIS_URL") as string },
  });
  expect(await bridge("wrong")).toMatchObject({
    state: "refused",
    lastError: { message: expect.stringContaining("WRONG_REDIS_URL: must be a URL") as string },
  });
  expect(fleet.log()).not.toContain("never-in-a-log");
  const ada = await connectOldClient(server.url, ["link-1"]);
  const eve = await follow("link:1");
  link.set("closed");
  link.cut();
  await hasState("link", "degraded");
  await publish("link:1", "while it is away");
  await eve.next(({ data }) => data === "while it is away");
  link.set("open");
  await hasState("link", "live");
  await eventually(() => seenByOld(ada).length > 0);
  server.io.to("link-1").emit("note", "it is back");
  await eve.next(({ data }) => data === "it is back");
  expect(seenByOld(ada)).toEqual(["while it is away", "it is back"]);
});

test("BRI-10: while the fleet's Redis is full, publications wait, and are emitted once it has room", async () => {
  const ada = await connectOldClient(server.url, ["board-full"]);
  const eve = await follow("board:full");
  await admin.config("SET", "maxmemory", "1");
  await publish("board:full", "while it is full");
  await eve.next(({ data }) => data === "while it is full");
  await hasState("board", "degraded");
  server.io.to("board-full").emit("note", "servers still publish");
  await eve.next(({ data }) => data === "servers still publish");
  await admin.config("SET", "maxmemory", "0");
  await eventually(() => seenByOld(ada).length >= 2);
  expect(new Set(seenByOld(ada))).toEqual(new Set(["servers still publish", "while it is full"]));
  expect(seenByOld(ada)).toHaveLength(2);
  await hasState("board", "live");
});

test("BRI-10: a publication that the fleet's Redis refuses to send waits, and is emitted once", async () => {
  const ada = await connectOldClient(server.url, ["limited-1"]);
  await admin.acl("SETUSER", "limited", "-publish");
  await publish("limited:1", "refused");
  await hasState("limited", "degraded");
  await admin.acl("SETUSER", "limited", "+publish");
  await hasState("limited", "live");
  await publish("limited:1", "last");
  await eventually(() => seenByOld(ada).includes("last"));
  expect(seenByOld(ada)).toEqual(["refused", "last"]);
});

test("BRI-4: old servers with a topic for each room, or several streams, are refused, and the error says why", async () => {
  const dynamic = await startOldServer(oldRedis.url, "sharded-dynamic", "dynamic");
  await connectOldClient(dynamic.url, ["dynamic-1"]);
  await hasState("dynamic", "refused");
  expect(await bridge("dynamic")).toMatchObject({
    lastError: { message: expect.stringContaining("subscriptionMode") as string },
  });
  await dynamic.stop();
  await admin.set("several-0", "");
  await hasState("several", "refused");
  expect(await bridge("several")).toMatchObject({
    lastError: { message: expect.stringContaining("streamCount: 1") as string },
  });
});

test("BRI-8: after a change of stream the bridge carries what is sent then, also where the clock of the one before was ahead", async () => {
  const eve = await follow("moved:1");
  const data = (text: string): string =>
    JSON.stringify({ packet: { type: 2, data: ["note", text] }, opts: { rooms: ["moved-1"], except: [] } });
  const entryOf = (text: string): string[] => ["uid", "other", "nsp", "/", "type", "3", "data", data(text)];
  await hasState("moved", "live");
  await admin.xadd("moved", `${Date.now() + 3_600_000}-0`, ...entryOf("before"));
  await eve.next(({ data: seen }) => seen === "before");
  const bridges = { ...rules.bridges, moved: { ...rules.bridges.moved, key: "moved-there" } };
  expect((await fleet.api("PUT", "/v1/rules", { ...rules, bridges })).status).toBe(200);
  await eventually(async () => {
    await admin.xadd("moved-there", "*", ...entryOf("after"));
    return seenBy(eve).includes("after");
  });
});

test("BRI-9: a fleet's Redis that is restarted without its data doubles no publication", async () => {
  const ada = await connectOldClient(server.url, ["board-restart"]);
  const sent: string[] = [];
  async function send(): Promise<void> {
    sent.push(`publish ${sent.length}`);
    await publish("board:restart", sent.at(-1));
  }
  for (let n = 0; n < 5; n++) await send();
  await eventually(() => seenByOld(ada).length === 5);
  await oldRedis.kill();
  for (let n = 0; n < 5; n++) await send();
  await hasState("board", "degraded");
  await oldRedis.restart();
  await hasState("board", "live");
  // Until the old server has subscribed again it gets nothing.
  await eventually(async () => {
    await send();
    return seenByOld(ada).length > 10;
  });
  await eventually(() => seenByOld(ada).at(-1) === sent.at(-1));
  const seen = seenByOld(ada);
  expect(seen).toEqual(sent.filter((text) => seen.includes(text)));
});
