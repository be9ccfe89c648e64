/** HTTP doors against peers that send half of what they announce, send too much, or come in crowds. */
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { DoorTimeouts } from "../../shared/http/door-server.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { startFleet } from "../support/fleet.ts";
import { halfHead, OpenDoors } from "../support/open-doors.ts";
import { upgradeRequest } from "../support/raw-websocket.ts";
import { readPerTurn } from "../support/read-per-turn.ts";
import { type RawConnection, requestHead } from "../support/raw-http.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";
import { createTestDoor } from "../support/test-door.ts";

const doors = new OpenDoors();
afterEach(async () => doors.close());

const halfBody = `${requestHead("POST", "/", ["Content-Type: application/json", "Content-Length: 100"])}{"a":`;

describe("time", () => {
  test.for<[string, string, Partial<DoorTimeouts>, string]>([
    ["a connection that sends nothing", "", { headMs: 50 }, "408"],
    ["half a head", halfHead, { headMs: 50 }, "408"],
    ["half a body", halfBody, { headMs: 50, requestMs: 80 }, "408"],
    ["a connection that is idle after a request", requestHead("GET", "/"), { idleMs: 50 }, "200"],
  ])("DOOR-1: %s frees its socket in time", async ([, text, timeouts, status]) => {
    const { door, closures } = await doors.start(createTestDoor({ timeouts }));
    const received = await doors.open(door, text).closed;
    expect(received.slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
    expect((await closures())["late"]).toBe(status === "408" ? 1 : undefined);
    await eventually(() => door.connections.total === 0);
  });

  test("DOOR-1: all three doors of the two programs have these timeouts", async () => {
    const fleet = await startFleet({});
    const [gateway] = fleet.gateways;
    for (const door of [gateway?.publicDoor, gateway?.adminDoor, fleet.privateApi.door]) {
      expect(door?.app.server).toMatchObject({
        headersTimeout: 10_000,
        requestTimeout: 30_000,
        keepAliveTimeout: 65_000,
        timeout: 120_000,
      });
    }
    await fleet.stop();
  });

  test("DOOR-1: an upgrade whose answer the peer does not read frees its socket in time", async () => {
    const { door } = await doors.start(createTestDoor({ timeouts: { stalledMs: 100 } }));
    const answer = Buffer.alloc(32 * 1024 * 1024);
    door.app.server.on("upgrade", (_request, socket: Socket) => {
      socket.write(answer);
      socket.destroySoon();
    });
    const { socket } = doors.open(door, requestHead("GET", "/", ["Connection: Upgrade", "Upgrade: websocket"]));
    socket.pause();
    await eventually(() => door.connections.total === 1);
    await eventually(() => door.connections.total === 0);
  });

  test("DOOR-10: the system probes whether the machine of a silent peer is still there", async () => {
    const { door } = await doors.start(createTestDoor());
    const { socket } = doors.open(door, "");
    await eventually(() => door.connections.total === 1);
    const [local, remote] = [door.port, socket.localPort ?? 0].map((port) => port.toString(16).padStart(4, "0"));
    const timers = readFileSync("/proc/net/tcp", "latin1");
    // The column `tr` is 02 where a keep-alive timer runs.
    const line = new RegExp(`0100007F:${local} 0100007F:${remote} 01 \\S+ (\\d\\d):`, "i").exec(timers);
    expect(line?.[1]).toBe("02");
  });

  test.each<[string, Partial<DoorTimeouts>]>([
    ["its request never ends", { headMs: 1_000, requestMs: 1_500 }],
    ["nothing moves", { stalledMs: 1_500 }],
  ])("DOOR-2: an authorised stream outlasts the timeouts, other requests do not: %s", async (_name, timeouts) => {
    const created = createTestDoor({ timeouts });
    const { door } = created;
    door.app.addHook("onRequest", (request, reply, done) => {
      const vouched = request.headers["x-known"] !== undefined;
      if (vouched) door.vouchFor(request.raw, reply.raw, { isStream: true });
      done();
    });
    door.app.addContentTypeParser("text/stream", (_request, payload, done) => done(null, payload));
    door.app.post("/stream", (request, reply) => {
      reply.hijack();
      reply.raw.flushHeaders();
      request.raw.pipe(reply.raw);
    });
    await doors.start(created);
    const head = (more: string[]): string =>
      requestHead("POST", "/stream", ["Content-Type: text/stream", "Content-Length: 10", ...more]);
    const known = doors.open(door, head(["X-Known: 1"]));
    const unknown = await doors.open(door, head([])).closed;
    // The later stream has been cut by now; without the vouching, this one would have been, too.
    expect(unknown).not.toContain("finished");
    known.socket.write("finished\r\n");
    await eventually(() => known.received().includes("finished"));
  });
});

describe("number", () => {
  test("DOOR-3: a crowd of half-sent requests from one address leaves room for another", async () => {
    const { door, closures } = await doors.start(createTestDoor({ bounds: { total: 100, unproven: 20 } }));
    const crowd = Array.from({ length: 60 }, (_, i) => doors.open(door, i % 2 ? halfHead : halfBody, "127.0.0.2"));
    await eventually(async () => ((await closures())["crowded"] ?? 0) >= 40);
    expect(door.connections.unproven).toBe(20);
    expect(await Promise.all(Array.from({ length: 10 }, async () => doors.answers(door)))).not.toContain(false);
    // The oldest went first.
    const isOpen = crowd.map(({ socket }) => !socket.destroyed);
    expect(isOpen.lastIndexOf(false)).toBeLessThan(isOpen.indexOf(true));
  });

  test("DOOR-3: behind one balancer a new connection takes the place of the oldest idle one", async () => {
    const { door } = await doors.start(createTestDoor({ bounds: { total: 100, unproven: 5 } }));
    const idle: RawConnection[] = [];
    for (let i = 0; i < 8; i++) {
      const connection = doors.open(door, requestHead("GET", "/"));
      await eventually(() => connection.received().endsWith("here"));
      idle.push(connection);
    }
    expect(await doors.answers(door)).toBe(true);
    await eventually(() => idle.slice(0, 3).every(({ socket }) => socket.destroyed));
    expect(idle.at(-1)?.socket.destroyed).toBe(false);
  });

  test("DOOR-4: connections of authorised requests are never displaced, but bounded", async () => {
    const created = createTestDoor({ bounds: { total: 10, unproven: 10 } });
    const { door, closures } = created;
    door.app.get("/held", (request, reply) => {
      reply.hijack();
      door.vouchFor(request.raw, reply.raw, { isStream: true });
    });
    await doors.start(created);
    const held = Array.from({ length: 9 }, () => doors.open(door, requestHead("GET", "/held"), "127.0.0.2"));
    await eventually(() => door.connections.total === 9 && door.connections.unproven === 0);
    doors.open(door, requestHead("GET", "/held"));
    await eventually(async () => (await closures())["crowded"] === 1);
    expect(held.filter(({ socket }) => socket.destroyed)).toEqual([]);
    held[0]?.socket.destroy();
    await eventually(() => door.connections.total === 8);
    expect(await doors.answers(door)).toBe(true);
  });

  test("DOOR-5: a connection that sends many requests at once is closed", async () => {
    const { door, closures } = await doors.start(createTestDoor());
    const received = await doors.open(door, requestHead("GET", "/").repeat(1_000)).closed;
    expect(received.split("HTTP/1.1 200").length).toBeLessThan(20);
    expect((await closures())["pipelined"]).toBe(1);
  });

  test("DOOR-5: sixteen requests may wait for their answers, and more at once are not even parsed", async () => {
    const created = createTestDoor();
    let requests = 0;
    created.door.app.get("/held", (_request, reply) => {
      requests++;
      reply.hijack();
    });
    const { door, closures } = await doors.start(created);
    await doors.open(door, requestHead("GET", "/held").repeat(17)).closed;
    expect(requests).toBe(0);
    const { socket, closed } = doors.open(door, requestHead("GET", "/held").repeat(16));
    await eventually(() => requests === 16);
    socket.write(requestHead("GET", "/held").repeat(3));
    await closed;
    expect(requests).toBe(16);
    expect((await closures())["pipelined"]).toBe(2);
  });

  test("DOOR-3: a connection proves itself for one request only, or by its upgrade", async () => {
    const created = createTestDoor();
    const { door } = created;
    door.app.get("/known", (request, reply) => {
      door.vouchFor(request.raw, reply.raw, { isStream: false });
      return door.connections.unproven;
    });
    door.app.server.on("upgrade", () => undefined);
    await doors.start(created);
    const known = doors.open(door, requestHead("GET", "/known"));
    await eventually(() => known.received().endsWith("\r\n\r\n0"));
    await eventually(() => door.connections.unproven === 1);
    const upgraded = doors.open(door, requestHead("GET", "/", ["Connection: Upgrade", "Upgrade: websocket"]));
    await eventually(() => door.connections.total === 2 && door.connections.unproven === 1);
    for (const { socket } of [known, upgraded]) socket.resetAndDestroy();
    await eventually(() => door.connections.total === 0);
    expect(door.connections.unproven).toBe(0);
  });

  test("DOOR-5: nothing is kept of requests whose connection has closed", async () => {
    const created = createTestDoor();
    const { door } = created;
    let last: Socket | undefined;
    created.door.app.get("/held", (request, reply) => {
      reply.hijack();
      reply.raw.writeHead(200);
      last = request.raw.socket;
    });
    await doors.start(created);
    const { socket } = doors.open(door, requestHead("GET", "/held").repeat(3));
    await eventually(() => last !== undefined && door.connections.owesAnswer(last));
    socket.destroy();
    await eventually(() => door.connections.total === 0);
    expect(last && door.connections.owesAnswer(last)).toBe(false);
  });
});

describe("DOOR-7: a connection is held for half a second before it is closed", () => {
  const earlyAnswer = requestHead("POST", "/early", ["Content-Type: text/plain", "Content-Length: 100000000"]);
  const refused = requestHead("POST", "/nothing", ["Content-Type: text/plain", "Content-Length: 1000000"]);
  test.for<[string, string, string]>([
    ["that sends many requests at once", requestHead("GET", "/").repeat(1_000), ""],
    ["whose request is answered before its body has arrived", earlyAnswer, "200"],
    ["whose request is refused before its body has arrived", refused, "404"],
  ])("DOOR-7: %s, and nothing more of it is read", async ([, request, status]) => {
    const created = createTestDoor();
    created.door.app.post("/early", { onRequest: (_request, reply) => void reply.send("early") }, () => "late");
    const { door } = await doors.start(created);
    const startedAt = performance.now();
    const connection = doors.open(door, request);
    // More than the kernel buffers: all of it is sent only if the server reads it.
    const wasRead = new Promise<boolean>((resolve) =>
      connection.socket.write(Buffer.alloc(32 * 1024 * 1024), (error) => resolve(!error)),
    );
    expect((await connection.closed).slice(9, 12)).toBe(status);
    expect(performance.now() - startedAt).toBeGreaterThan(450);
    expect(await wasRead).toBe(false);
  });
});

test("DOOR-8: in one turn of the event loop at most 128 KiB of a request are read", async () => {
  const created = createTestDoor();
  const read = readPerTurn();
  created.door.app.addContentTypeParser("application/octet-stream", (_request, payload, done) => {
    payload.on("data", ({ length }: Buffer) => read.add(length));
    payload.once("end", () => done(null, "read"));
  });
  const { door } = await doors.start(created);
  const length = 8 * 1024 * 1024;
  const headers = ["Content-Type: application/octet-stream", `Content-Length: ${length}`, "Connection: close"];
  const connection = doors.open(door, requestHead("POST", "/", headers));
  connection.socket.write(Buffer.alloc(length));
  expect(await connection.closed).toContain("HTTP/1.1 200");
  expect(read.end().total).toBe(length);
  expect(read.most).toBeLessThanOrEqual(128 * 1024);
});

test("DOOR-9: the body of a request that is refused by its head is not parsed", async () => {
  const created = createTestDoor();
  let parts = 0;
  created.door.app.addHook("onRequest", ({ raw, headers }, _reply, done) => {
    raw.on("data", () => parts++);
    done(headers["x-known"] === undefined ? new TidegateError("unauthenticated", "no token") : undefined);
  });
  const { door } = await doors.start(created);
  const chunks = "1\r\n \r\n".repeat(500);
  const head = (...more: string[]): string =>
    requestHead("POST", "/", ["Content-Type: application/json", "Transfer-Encoding: chunked", ...more]);
  const body = `${chunks}1\r\n{\r\n1\r\n}\r\n0\r\n\r\n`;
  const refused = doors.open(door, `${head()}${chunks.repeat(5)}`);
  expect(await refused.closed).toContain("HTTP/1.1 401");
  expect(parts).toBe(0);
  // What is not refused is parsed, whatever its size.
  const accepted = doors.open(door, `${head("X-Known: yes", "Connection: close")}${chunks}${body}`);
  expect(await accepted.closed).toContain("HTTP/1.1 200");
  expect(parts).toBe(1_002);
});

test("DOOR-7: bad HTTP amid an answer adds nothing to the answer", async () => {
  const created = createTestDoor();
  created.door.app.get("/held", (_request, reply) => {
    reply.hijack();
    reply.raw.write("begun");
  });
  const { door } = await doors.start(created);
  const connection = doors.open(door, requestHead("GET", "/held"));
  await eventually(() => connection.received().includes("begun"));
  connection.socket.write("nonsense\r\n\r\n");
  expect((await connection.closed).split("HTTP/1.1")).toHaveLength(2);
});

test("DOOR-7: bad HTTP behind a request takes nothing from its answer", async () => {
  const { door, closures } = await doors.start(createTestDoor());
  for (const head of [requestHead("GET", "/"), requestHead("GET", "/", ["Connection: close"])]) {
    const received = await doors.open(door, `${head}nonsense\r\n\r\n`).closed;
    expect(received.slice(9, 12)).toBe("200");
    expect(received.endsWith("here")).toBe(true);
  }
  expect(await closures()).toEqual({ malformed: 2 });
});

test("DOOR-13: a request with an unknown Expect is answered, and bounded, as any other", async () => {
  const { door } = await doors.start(createTestDoor());
  const known = doors.open(door, requestHead("GET", "/", ["Expect: nothing", "Connection: close"]));
  expect((await known.closed).slice(9, 12)).toBe("200");
  const head = requestHead("POST", "/none", ["Expect: nothing", "Transfer-Encoding: chunked"]);
  const startedAt = performance.now();
  // Its body never ends.
  expect((await doors.open(door, `${head}1\r\n{\r\n`).closed).slice(9, 12)).toBe("404");
  expect(performance.now() - startedAt).toBeGreaterThan(450);
});

test("DOOR-7: bad HTTP is answered at once, and its connection closes half a second later", async () => {
  const { door } = await doors.start(createTestDoor());
  for (const [sent, status] of [
    ["nonsense\r\n\r\n", "400"],
    [requestHead("GET", "/", [`X-Large: ${"x".repeat(100_000)}`]), "431"],
  ] as const) {
    const startedAt = performance.now();
    const connection = doors.open(door, sent);
    expect((await connection.closed).slice(9, 12)).toBe(status);
    expect(performance.now() - startedAt).toBeGreaterThan(450);
  }
});

test("DOOR-6: unauthenticated websockets from one address leave room for another", async () => {
  const fleet = await startFleet({ environment: { GATEWAY_MAX_CONNECTIONS: "10" } });
  const [gateway] = fleet.gateways;
  const url = new URL(fleet.urls[0] ?? "");
  const port = Number(url.port);
  const silent = Array.from({ length: 1_100 }, () => doors.open({ port }, upgradeRequest(url), "127.0.0.2"));
  await eventually(() => silent.every(({ received }) => received().includes("101 ")));
  await eventually(() => silent.filter(({ socket }) => socket.destroyed).length >= 100);
  const client = await connectClient(url.href);
  expect(client.welcome.resumed).toBe(false);
  expect(await metricOf(gateway, "sessions")).toBe(1);
  closeClients();
  for (const { socket } of silent) socket.destroy();
  await fleet.stop();
});
