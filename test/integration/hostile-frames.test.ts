/** Hostile input on the public port, with and without a session: it ends no process, and costs others little. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { ClientConnection } from "../../gateway/engine/client-connection.ts";
import { FrameScanner } from "../../gateway/engine/frame-scanner.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { RawClient } from "../support/raw-client.ts";
import {
  clientFrame,
  ended,
  openRawWebsocket,
  pingFrame,
  textFrame,
  upgradeRequest,
} from "../support/raw-websocket.ts";
import { readPerTurn } from "../support/read-per-turn.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

let fleet: Fleet;
let url: string;
beforeAll(async () => {
  fleet = await startFleet({ environment: { GATEWAY_TRANSPORTS: "websocket,polling" } });
  url = fleet.urls[0] ?? "";
});
afterEach(closeClients);
afterAll(async () => fleet.stop());

async function metric(series: string): Promise<number> {
  const [gateway] = fleet.gateways;
  if (!gateway) throw new Error("there is no gateway");
  return metricOf(gateway, series);
}

/** @returns everything that the server sent, once the connection has ended. */
async function answerTo(request: string): Promise<string> {
  const { port, hostname } = new URL(url);
  const socket = connect(Number(port), hostname);
  let answered = "";
  socket.on("data", (chunk) => (answered += String(chunk)));
  socket.write(request);
  await ended(socket);
  return answered;
}

function upgradeTo(path: string, more: readonly string[] = []): string {
  const [, ...headers] = upgradeRequest(new URL(url)).trimEnd().split("\r\n");
  return [`GET ${path} HTTP/1.1`, ...headers, ...more, "", ""].join("\r\n");
}

async function honestClientIsServed(): Promise<void> {
  const client = await connectClient(url);
  expect((await client.subscribe("board:honest")).ok).toBe(true);
}

describe("HOST-1: an upgrade", () => {
  test.each(["/x", "/socket.iox", "/socket.io", "/v1/bootstrap", "/"])(
    "HOST-1: to %s is refused at once; a reset right behind it does no harm",
    async (path) => {
      expect(await answerTo(upgradeTo(path))).toMatch(/^HTTP\/1.1 404 Not Found\r\n/);
      for (let i = 0; i < 20; i++) {
        const socket = connect(Number(new URL(url).port), "127.0.0.1");
        await once(socket, "connect");
        await new Promise((resolve) => socket.write(upgradeTo(path), resolve));
        socket.resetAndDestroy();
      }
      await honestClientIsServed();
    },
  );

  test("HOST-1: to h2c is an ordinary request", async () => {
    const request = ["GET /v1/bootstrap HTTP/1.1", `Host: ${new URL(url).host}`, "Connection: Upgrade, close"];
    expect(await answerTo([...request, "Upgrade: h2c", "", ""].join("\r\n"))).toMatch(/^HTTP\/1.1 200 OK\r\n/);
  });

  test("HOST-1: that ends with a reset, before or after it opens, does no harm", async () => {
    for (let i = 0; i < 20; i++) {
      const socket = connect(Number(new URL(url).port), "127.0.0.1");
      await once(socket, "connect");
      await new Promise((resolve) => socket.write(upgradeRequest(new URL(url)), resolve));
      if (i % 2) await once(socket, "data");
      socket.resetAndDestroy();
    }
    await honestClientIsServed();
  });
});

test("CON-15: an Engine.IO revision other than 4 gets a 400 before the upgrade", async () => {
  const answer = await answerTo(upgradeTo("/socket.io/?EIO=3&transport=websocket"));
  expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/);
  expect(answer).toContain("Engine.IO 4");
});

test("HOST-2: 60,000 arguments refuse the event, 130,000 close the connection", async () => {
  const client = await RawClient.connect(new URL(url), await userToken());
  const ack = client.acked(7);
  client.socket.write(textFrame(`427["a"${",0".repeat(60_000)}]`));
  expect(await ack).toMatchObject({ ok: false, error: { code: "invalid_request" } });
  expect((await client.subscribe("board:1")).recovered).toBe(false);
  client.socket.write(textFrame(`428["a"${",0".repeat(130_000)}]`));
  await client.closed;
  await honestClientIsServed();
});

test("CONT-1: an exception in the handling of a frame is counted, and closes only its sender", async () => {
  const [hurt, other] = [await connectClient(url), await connectClient(url)];
  const before = await metric('contained_errors_total{boundary="frame"}');
  vi.spyOn(Outbox.prototype, "send").mockImplementationOnce(() => {
    throw new Error("a bug in the outbox");
  });
  hurt.socket.emit("doc.open", {}, () => undefined);
  await hurt.disconnected;
  expect(await metric('contained_errors_total{boundary="frame"}')).toBe(before + 1);
  expect(fleet.log()).toContain("a bug in the outbox");
  expect((await other.subscribe("board:1")).ok).toBe(true);
});

const scanOf = FrameScanner.prototype.scan;

/** Frames without an event. */
const idleFrames = {
  "websocket pings": pingFrame(""),
  "websocket pongs": clientFrame("pong", ""),
  "engine pongs": textFrame("3"),
  "engine noops": textFrame("6"),
  "unsolicited acks": textFrame("431[]"),
};

async function isCut(socket: Socket, frames: Buffer, cause: string): Promise<void> {
  const before = await metric(`floods_total{cause="${cause}"}`);
  const closed = ended(socket);
  socket.write(frames);
  await closed;
  expect(await metric(`floods_total{cause="${cause}"}`)).toBe(before + 1);
}

describe("LIM-8: frames without an event", () => {
  test.each(Object.entries(idleFrames))(
    "LIM-8: more than a hundred %s at once cut the connection",
    async (_name, frame) => {
      const { socket } = await RawClient.connect(new URL(url), await userToken());
      await isCut(socket, Buffer.concat(Array.from({ length: 200 }, () => frame)), "controls");
    },
  );

  test("LIM-8: more than a hundred small fragments at once cut the connection", async () => {
    const { socket } = await RawClient.connect(new URL(url), await userToken());
    const fragments = Array.from({ length: 200 }, () => clientFrame("continuation", "", false));
    await isCut(socket, Buffer.concat([clientFrame("text", "4", false), ...fragments]), "controls");
  });

  test("LIM-8: fragments of a kilobyte and more do not count as controls", async () => {
    const client = await RawClient.connect(new URL(url), await userToken());
    const ack = client.acked(7);
    const packet = `427["doc.open",${JSON.stringify("x".repeat(60_000))}]`;
    const pieces = packet.match(/.{1,1024}/g) ?? [];
    const frames = pieces.map((piece, i) =>
      clientFrame(i === 0 ? "text" : "continuation", piece, i === pieces.length - 1),
    );
    client.socket.write(Buffer.concat([...frames, ...Array.from({ length: 60 }, () => pingFrame(""))]));
    expect(await ack).toMatchObject({ ok: false, error: { code: "no_route" } });
    client.socket.destroy();
  });
});

test("LIM-13: a connection is cut a thousand frames after the node has closed it", async () => {
  const { socket } = await RawClient.connect(new URL(url), await userToken());
  // An invalid packet: the node closes the connection, and waits for the closing handshake.
  socket.write(textFrame("4"));
  const [closeFrame] = (await once(socket, "data")) as [Buffer];
  expect(closeFrame[0]).toBe(0x88);
  await isCut(socket, Buffer.concat(Array.from({ length: 1_001 }, () => textFrame("4"))), "closing");
});

test("LIM-14: the node reads about 128 KiB of a session per turn of the event loop", async () => {
  const client = await RawClient.connect(new URL(url), await userToken());
  const read = readPerTurn();
  const scan = vi.spyOn(FrameScanner.prototype, "scan");
  scan.mockImplementation(function (this: FrameScanner, chunk) {
    read.add(chunk.length);
    return Reflect.apply(scanOf, this, [chunk]);
  });
  const event = textFrame(`42["doc.open",${JSON.stringify("x".repeat(60_000))}]`);
  const ack = client.acked(7);
  client.socket.write(Buffer.concat([...Array.from({ length: 80 }, () => event), textFrame('427["doc.open",0]')]));
  expect(await ack).toMatchObject({ ok: false });
  expect(read.end().total).toBeGreaterThan(80 * 60_000);
  expect(read.most).toBeLessThanOrEqual(160 * 1024);
  scan.mockRestore();
  client.socket.destroy();
});

describe("LIM-15: before its session", () => {
  const broken: Record<string, Buffer> = {
    "a frame without a mask": Buffer.from([0x81, 0x01, 0x32]),
    "a message that is no packet": textFrame("40[[["),
    "too many frames": Buffer.concat(Array.from({ length: 21 }, () => textFrame("3"))),
  };

  test.each(Object.entries(broken))(
    "LIM-15: a connection that sends %s ends half a second later, however it closes",
    async (_name, frames) => {
      const socket = await openRawWebsocket(new URL(url));
      const closed = ended(socket);
      const sentAt = performance.now();
      socket.end(frames);
      await closed;
      expect(performance.now() - sentAt).toBeGreaterThan(450);
    },
  );

  test("LIM-15: a connection that is cut gets no close frame, which its peer would not wait for", async () => {
    const socket = await openRawWebsocket(new URL(url));
    let received = 0;
    socket.on("data", ({ length }: Buffer) => (received += length));
    await isCut(socket, Buffer.concat(Array.from({ length: 21 }, () => textFrame("3"))), "entering");
    expect(received).toBe(0);
  });

  test("LIM-15: the node does not parse what it had read of a connection that it cuts", async () => {
    const socket = await openRawWebsocket(new URL(url));
    const decode = vi.spyOn(Buffer.prototype, "toString");
    // Of eight bytes: what the node reads at a time ends with a whole frame.
    await isCut(socket, Buffer.concat(Array.from({ length: 100_000 }, () => textFrame("42"))), "entering");
    const decoded = decode.mock.contexts.filter((bytes) => (bytes as Buffer).length === 2);
    decode.mockRestore();
    expect(decoded.length).toBeLessThan(100);
  });

  test("LIM-15: a forged token is refused half a second later", async () => {
    const [head, claims] = (await userToken()).split(".");
    const sentAt = performance.now();
    expect(await refusedConnect(url, { token: `${head}.${claims}.forged` })).toMatchObject({ code: "unauthenticated" });
    expect(performance.now() - sentAt).toBeGreaterThan(450);
  });
});

describe("LIM-9: before its session", () => {
  test.each(Object.entries(idleFrames))("LIM-9: a connection that sends twenty-one %s is cut", async (_name, frame) => {
    const socket = await openRawWebsocket(new URL(url));
    await isCut(socket, Buffer.concat(Array.from({ length: 21 }, () => frame)), "entering");
  });

  test("LIM-9: a frame head that announces more than 64 KiB cuts the connection", async () => {
    const socket = await openRawWebsocket(new URL(url));
    await isCut(socket, textFrame("x".repeat(100_000)).subarray(0, 20), "entering");
  });

  test("LIM-9: more than 64 KiB in several fragments cut the connection", async () => {
    const socket = await openRawWebsocket(new URL(url));
    const fragment = clientFrame("continuation", "x".repeat(15_000), false);
    await isCut(
      socket,
      Buffer.concat([clientFrame("text", "4", false), fragment, fragment, fragment, fragment, fragment]),
      "entering",
    );
  });

  test.each([
    ["50,000 letters of one byte", "x".repeat(50_000)],
    ["25,000 letters of two bytes", "é".repeat(25_000)],
  ])("LIM-9: an auth of more than 48 KiB is refused unread: %s", async (_letters, junk) => {
    const refusal = await refusedConnect(url, { token: await userToken(), junk });
    expect(refusal).toMatchObject({ code: "unauthenticated", message: expect.stringContaining("auth is longer") });
  });
});

test("LIM-10: past twice 64 KiB at a rate of 64 KiB a second a websocket is read later", async () => {
  const slow = await startFleet({ environment: { GATEWAY_MESSAGES_PER_SECOND: "1" } });
  onTestFinished(() => slow.stop());
  const client = await RawClient.connect(new URL(slow.urls[0] ?? ""), await userToken());
  const ack = client.acked(7);
  const sentAt = performance.now();
  const event = textFrame(`42["doc.open",${JSON.stringify("x".repeat(60_000))}]`);
  const events = Array.from({ length: 4 }, () => event);
  client.socket.write(Buffer.concat([...events, textFrame('427["sync:unsubscribe",{"channel":"board:1"}]')]));
  expect(await ack).toMatchObject({ error: { code: "not_subscribed" } });
  expect(performance.now() - sentAt).toBeGreaterThan(1_000);
  client.socket.destroy();
});

describe("BAD-9: binary attachments", () => {
  test("BAD-9: an event that announces attachments is refused, and the attachments are dropped", async () => {
    const client = await RawClient.connect(new URL(url), await userToken());
    const ack = client.acked(7);
    client.socket.write(textFrame(`452-7["doc.open",{"_placeholder":true,"num":0}]`));
    expect(await ack).toMatchObject({ ok: false, error: { code: "invalid_request" } });
    client.socket.write(clientFrame("binary", Buffer.alloc(100_000)));
    client.socket.write(clientFrame("binary", Buffer.alloc(10)));
    expect((await client.subscribe("board:1")).recovered).toBe(false);
    client.socket.destroy();
  });

  test.each([
    ["an attachment without an announcement", [clientFrame("binary", "x")]],
    ["attachments before the session", [textFrame(`4510-["x"]`), clientFrame("binary", "x")]],
    ["eleven attachments", [textFrame(`4511-["x"]`)]],
  ])("BAD-9: %s: the connection is closed", async (name, frames) => {
    const socket =
      name === "attachments before the session"
        ? await openRawWebsocket(new URL(url))
        : (await RawClient.connect(new URL(url), await userToken())).socket;
    const closed = ended(socket);
    socket.write(Buffer.concat(frames));
    await closed;
    expect(socket.destroyed).toBe(true);
    await honestClientIsServed();
  });
});

test("HAND-1: the node keeps neither the request of a session nor its handshake", async () => {
  const begin = vi.spyOn(ClientConnection.prototype, "begin");
  const { socket } = await RawClient.connect(new URL(url), await userToken());
  const [kept] = begin.mock.calls[0] ?? [];
  begin.mockRestore();
  expect(kept?.conn).toMatchObject({ request: null });
  expect(kept?.handshake).toEqual({});
  socket.destroy();
});

test("HAND-1: the node keeps nothing of auth beyond what the handshake needs", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const heap = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const token = await userToken();
  const junk = Array.from({ length: 10_000 }, () => []);
  // The first connection also creates what all later ones share.
  const clients = [await RawClient.connect(new URL(url), token, { junk })];
  const before = heap();
  while (clients.length < 51) clients.push(await RawClient.connect(new URL(url), token, { junk }));
  const bytesEach = (heap() - before) / 50;
  for (const { socket } of clients) socket.destroy();
  // The parsed auth takes more than 160 KB.
  expect(bytesEach).toBeLessThan(80_000);
});
