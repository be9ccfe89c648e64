/** Requests that a door answers past Node's HTTP server: their place among others, their bounds, and their end. */
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { type Exchange, PlainExchange } from "../../shared/http/exchange.ts";
import { eventually } from "../support/eventually.ts";
import { serviceSecret, startFleet } from "../support/fleet.ts";
import { startService } from "../support/http-service.ts";
import { openRaw, type RawConnection, requestHead } from "../support/raw-http.ts";
import { startRedis } from "../support/redis.ts";
import { createTestDoor, type TestDoor } from "../support/test-door.ts";

const ended: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).toReversed()) await end();
});

function open(port: number, text: string): RawConnection {
  const connection = openRaw(port, text);
  ended.push(async () => connection.socket.destroy());
  return connection;
}

function hook(path: string, body: string): string {
  return `${requestHead("POST", path, ["Content-Type: application/json", `Content-Length: ${body.length}`])}${body}`;
}

/** Sends, and waits until so many answers have arrived in all. */
async function ask(connection: RawConnection, text: string, answers: number): Promise<void> {
  connection.socket.write(text);
  await eventually(() => connection.received().split("HTTP/1.1 ").length > answers);
}

interface HookDoor extends TestDoor {
  /** Requests that wait for their answer. */
  readonly waiting: Exchange[];
}

/** Answers `/hooks/first` at once, and others when the test does. */
async function startHookDoor(timeouts: Parameters<typeof createTestDoor>[0] = {}): Promise<HookDoor> {
  const created = createTestDoor(timeouts);
  const waiting: Exchange[] = [];
  created.door.serveFirst({
    any: ({ url }) => (url === "/hooks/first" ? (exchange) => answer(exchange, "first") : undefined),
    plain: ({ url }) => (url === "/hooks/other" ? (exchange) => waiting.push(exchange) : undefined),
  });
  await created.door.start();
  ended.push(async () => created.door.stop());
  return { ...created, waiting };
}

function answer(exchange: Exchange | undefined, text: string): void {
  exchange?.answer({ status: 200, headers: {}, text });
}

async function openPrimed({ door }: HookDoor): Promise<RawConnection> {
  const connection = open(door.port, "");
  await ask(connection, hook("/hooks/first", "{}"), 1);
  return connection;
}

test("DOOR-14: what arrives behind a request waits for its answer, and is answered in order", async () => {
  const created = await startHookDoor();
  const { door, waiting } = created;
  const connection = await openPrimed(created);
  connection.socket.write(hook("/hooks/other", '{"a":1}'));
  await eventually(() => waiting.length === 1);
  waiting[0]?.vouch();
  expect(door.connections.unproven).toBe(0);
  connection.socket.write(requestHead("GET", "/") + hook("/hooks/first", "{}"));
  await eventually(() => waiting[0]?.socket.bytesRead === connection.socket.bytesWritten);
  // Another connection has its answers meanwhile.
  const other = await openPrimed(created);
  await ask(other, requestHead("GET", "/"), 2);
  expect(connection.received().split("HTTP/1.1 ")).toHaveLength(2);
  answer(waiting[0], "other");
  await eventually(() => connection.received().split("HTTP/1.1 ").length === 5);
  expect(connection.received().match(/\r\n\r\n[a-z]+/g)).toEqual(
    ["first", "other", "here", "first"].map((text) => `\r\n\r\n${text}`),
  );
  await eventually(() => door.connections.unproven === 2);
});

test("DOOR-14: more than 16 requests behind a plain one close the connection", async () => {
  const created = await startHookDoor();
  const connection = await openPrimed(created);
  connection.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => created.waiting.length === 1);
  connection.socket.write(requestHead("GET", "/").repeat(17));
  await connection.closed;
  expect(await created.closures()).toEqual({ pipelined: 1 });
});

test("DOOR-14: a stop sends answers under way, and then closes every connection", async () => {
  const created = await startHookDoor({ timeouts: { stopMs: 60_000 } });
  const { door, waiting } = created;
  const [busy, leaving, idle] = [await openPrimed(created), await openPrimed(created), await openPrimed(created)];
  busy.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => waiting.length === 1);
  leaving.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => waiting.length === 2);
  const stopped = door.stop();
  await eventually(() => !door.app.server.listening);
  answer(waiting[0], "other");
  await eventually(() => busy.received().endsWith("\r\n\r\nother"));
  leaving.socket.destroy();
  await Promise.all([busy.closed, idle.closed]);
  await stopped;
  await eventually(() => door.connections.total === 0);
});

test("DOOR-14: a connection that is idle after such a request is closed in time", async () => {
  const created = await startHookDoor({ timeouts: { idleMs: 30_000 } });
  const connection = await openPrimed(created);
  connection.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => created.waiting.length === 1);
  const socket = created.waiting[0]?.socket;
  // Node adds a second to the time that its answer names.
  expect(socket?.timeout).toBe(31_000);
  // Shorter from now on, as no test waits so long. The request is there: the connection cannot be closed ahead of it.
  socket?.setTimeout(500);
  answer(created.waiting[0], "other");
  expect((await connection.closed).endsWith("\r\n\r\nother")).toBe(true);
  await eventually(() => created.door.connections.total === 0);
});

test("DOOR-14: an answer that ends the connection ends it, also where the peer would stay", async () => {
  const created = await startHookDoor();
  const connection = await openPrimed(created);
  connection.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => created.waiting.length === 1);
  created.waiting[0]?.closeAfter();
  answer(created.waiting[0], "other");
  const received = await connection.closed;
  expect(received).toMatch(/connection: close\r\n/);
  expect(received.endsWith("\r\n\r\nother")).toBe(true);
});

test("DOOR-14: a request behind an answer that ends the connection is not served", async () => {
  const created = await startHookDoor();
  const requests = vi.fn<() => void>();
  created.door.app.server.on("request", requests);
  const connection = await openPrimed(created);
  connection.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => created.waiting.length === 1);
  connection.socket.write(hook("/hooks/behind", "{}"));
  await eventually(() => created.waiting[0]?.socket.bytesRead === connection.socket.bytesWritten);
  created.waiting[0]?.closeAfter();
  answer(created.waiting[0], "other");
  expect((await connection.closed).endsWith("\r\n\r\nother")).toBe(true);
  await eventually(() => created.door.connections.total === 0);
  expect(requests).not.toHaveBeenCalled();
});

test("DOOR-14: the door keeps nothing of a peer that leaves, nor of a service that throws", async () => {
  const created = await startHookDoor();
  const { door, waiting, errors } = created;
  const gone = await openPrimed(created);
  gone.socket.write(hook("/hooks/other", "{}"));
  await eventually(() => waiting.length === 1);
  gone.socket.destroy();
  await eventually(() => door.connections.total === 0);
  answer(waiting[0], "other");
  const failed = await openPrimed(created);
  vi.spyOn(waiting, "push").mockImplementationOnce(() => {
    throw new Error("a service fails");
  });
  failed.socket.write(hook("/hooks/other", "{}"));
  await failed.closed;
  expect(errors.counts.http).toBe(1);
  expect(door.connections.owesPlainAnswer).toBe(false);
  await eventually(() => door.connections.total === 0 && door.connections.unproven === 0);
});

test("CONT-1: a service whose promise rejects closes its peer, whatever has read the request", async () => {
  const { door, errors } = createTestDoor();
  const fail = async (): Promise<never> => {
    throw new Error("a service fails");
  };
  door.serveFirst({
    any: ({ url }) => (url === "/hooks/first" ? (exchange) => answer(exchange, "first") : fail),
    plain: () => fail,
  });
  await door.start();
  ended.push(async () => door.stop());
  const [byDoor, byNode] = [open(door.port, ""), open(door.port, "")];
  await ask(byDoor, hook("/hooks/first", "{}"), 1);
  byDoor.socket.write(hook("/hooks/other", "{}"));
  byNode.socket.write(hook("/hooks/other", "{}"));
  await Promise.all([byDoor.closed, byNode.closed]);
  expect(errors.counts.http).toBe(2);
  await eventually(() => door.connections.total === 0);
  expect(door.connections.owesPlainAnswer).toBe(false);
});

const hookRules = (url: string) => ({
  services: { hooks: { url, secret: serviceSecret } },
  routes: [
    { event: "hook", service: "hooks", path: "/", mode: "enqueue" },
    { event: "ask", service: "hooks", path: "/ask", mode: "call" },
  ],
  sources: { open: { verify: "none", route: "hook", key: "body:/key" }, asked: { verify: "none", route: "ask" } },
});

test("CONT-1: a gateway that fails to answer a webhook closes its connection", async () => {
  const service = await startService();
  ended.push(async () => service.stop());
  const fleet = await startFleet({ rules: hookRules(service.url) });
  ended.push(async () => fleet.stop());
  const connection = open(Number(new URL(fleet.urls[0] ?? "").port), "");
  await ask(connection, hook("/hooks/open", '{"key":1}'), 1);
  const answering = vi.spyOn(PlainExchange.prototype, "answer").mockImplementation(() => {
    throw new Error("an answer fails");
  });
  onTestFinished(() => answering.mockRestore());
  connection.socket.write(hook("/hooks/open", '{"key":2}'));
  await connection.closed;
  expect(answering).toHaveBeenCalled();
});

test("DOOR-14: Node's server does not see the webhooks behind the first of a connection", async () => {
  const [redis, service] = await Promise.all([startRedis(), startService()]);
  ended.push(async () => Promise.all([redis.stop(), service.stop()]));
  const fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    rules: hookRules(service.url),
  });
  ended.push(async () => fleet.stop());
  const [url = ""] = fleet.urls;
  const server = fleet.gateways[0]?.publicDoor.app.server;
  if (!server) throw new Error("no gateway");
  const emit = vi.spyOn(server, "emit");
  const parsed = (): number => emit.mock.calls.filter(([event]) => (event as string) === "request").length;
  const connection = open(Number(new URL(url).port), "");
  for (const [at, body] of ['{"key":1}', '{"key":2}', '{"no":"key"}', "no json"].entries()) {
    await ask(connection, hook("/hooks/open", body), at + 1);
  }
  expect(connection.received().match(/HTTP\/1\.1 \d+/g)).toEqual(
    ["202", "202", "400", "400"].map((status) => `HTTP/1.1 ${status}`),
  );
  expect(parsed()).toBe(1);
  // A service may take longer to answer than the connection may be idle.
  await ask(connection, hook("/hooks/asked", "{}"), 5);
  expect(parsed()).toBe(2);
  await eventually(() => service.requests.filter(({ path }) => path === "/").length === 2);
});
