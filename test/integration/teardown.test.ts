/** Connections that end at an awkward moment leave nothing behind. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { openRawWebsocket, textFrame } from "../support/raw-websocket.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
let url: string;
beforeAll(async () => {
  redis = await startRedis();
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    environment: { GATEWAY_MAX_CONNECTIONS: "5" },
  });
  url = fleet.urls[0] ?? "";
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

async function nothingIsLeft(): Promise<void> {
  const [gateway] = fleet.gateways;
  await eventually(
    async () => (await metricOf(gateway, "sessions")) === 0 && (await metricOf(gateway, "channels_followed")) === 0,
  );
  // Every seat is free again.
  for (let i = 0; i < 5; i++) await connectClient(url);
}

const connectPacket = async (): Promise<Buffer> => textFrame(`40${JSON.stringify({ token: await userToken() })}`);
/** The engine's own end of a connection. */
const closePacket = textFrame("1");
const subscribePacket = (n: number): Buffer =>
  textFrame(`42${n}${JSON.stringify(["sync:subscribe", { channel: `board:${n}` }])}`);

test("END-1: a connection that closes right after its handshake gives up its seat", async () => {
  for (let i = 0; i < 10; i++) {
    const socket = await openRawWebsocket(new URL(url));
    socket.write(Buffer.concat([await connectPacket(), closePacket]));
    socket.destroy();
  }
  await nothingIsLeft();
});

test("END-2: subscribes that arrive together with the close follow no channel", async () => {
  for (let i = 0; i < 5; i++) {
    const socket = await openRawWebsocket(new URL(url));
    socket.write(await connectPacket());
    await sees(socket, "sync:welcome");
    socket.write(Buffer.concat([...Array.from({ length: 10 }, (_, n) => subscribePacket(n)), closePacket]));
    socket.end();
  }
  await nothingIsLeft();
});

test("END-3: a session that ends, or unsubscribes, while it subscribes affects no other session", async () => {
  for (let i = 0; i < 10; i++) {
    const socket = await openRawWebsocket(new URL(url));
    socket.write(await connectPacket());
    await sees(socket, "sync:welcome");
    socket.write(subscribePacket(i));
    socket.end();
  }
  const client = await connectClient(url);
  const channel = "board:moment";
  for (let i = 0; i < 20; i++) {
    const [subscribed, unsubscribed] = await Promise.all([
      client.request("sync:subscribe", { channel }),
      client.request("sync:unsubscribe", { channel }),
    ]);
    expect(subscribed.ok || subscribed.error?.code === "not_subscribed").toBe(true);
    expect(unsubscribed.ok).toBe(true);
  }
  client.socket.disconnect();
  await nothingIsLeft();
});

test("END-4: a connection authenticates once: further tries take no seat and open no session", async () => {
  const socket = await openRawWebsocket(new URL(url));
  const packet = await connectPacket();
  // As many as are not a flood (LIM-7).
  socket.write(Buffer.concat(Array.from({ length: 5 }, () => packet)));
  await sees(socket, "sync:welcome");
  expect(await metricOf(fleet.gateways[0], "sessions")).toBe(1);
  for (let i = 0; i < 4; i++) await connectClient(url);
  closeClients();
  socket.destroy();
  await nothingIsLeft();
});

test("END-5: a refused connection keeps no seat while its transport stays", async () => {
  // Never authenticates: the gateway closes it 8 s after it opened.
  const silent = await openRawWebsocket(new URL(url));
  let silentIsOpen = true;
  silent.once("close", () => (silentIsOpen = false));
  const refused = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const socket = await openRawWebsocket(new URL(url));
      const closedBeforeSilent = new Promise<boolean>((resolve) => socket.once("close", () => resolve(silentIsOpen)));
      socket.write(textFrame('40{"token":"x"}'));
      await sees(socket, "unauthenticated");
      return { closedBeforeSilent };
    }),
  );
  await nothingIsLeft();
  for (const { closedBeforeSilent } of refused) expect(await closedBeforeSilent).toBe(true);
  silent.destroy();
});

test("END-6: neither an unfinished request nor a frozen client delays the stop", async () => {
  const other = await startFleet({});
  const [otherUrl = ""] = other.urls;
  const stranger = connect(Number(new URL(otherUrl).port), "127.0.0.1");
  await once(stranger, "connect");
  stranger.write("GET / HTTP/1.1\r\nHost: a\r\n");
  const frozen = await openRawWebsocket(new URL(otherUrl));
  frozen.write(await connectPacket());
  await sees(frozen, "sync:welcome");
  frozen.pause();
  // The stop itself is the assertion: without its bounds it would outlast the test.
  await other.stop();
  const drained = other.log().match(/^.*"msg":"drained".*$/m)?.[0] ?? "{}";
  expect(JSON.parse(drained)).toMatchObject({ sessions: 1, endedAt: expect.any(Number) as number });
  stranger.destroy();
  frozen.destroy();
});

async function sees(socket: Socket, text: string): Promise<void> {
  let seen = "";
  while (!seen.includes(text)) seen += String((await once(socket, "data"))[0]);
}
