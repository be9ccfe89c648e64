/** Clients, users and addresses that send or use too much. */
import { io } from "socket.io-client";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import { crowdsOf, enterTogether, stopTime } from "../support/crowds.ts";
import { eventually } from "../support/eventually.ts";
import { serviceSecret, startFleet } from "../support/fleet.ts";
import { startService } from "../support/http-service.ts";
import { RawClient } from "../support/raw-client.ts";
import { openRawWebsocket, textFrame } from "../support/raw-websocket.ts";
import { startRedis } from "../support/redis.ts";
import { type Answer, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

const { fleets, rawSockets, fleetWith, closeAll } = crowdsOf();
afterEach(async () => {
  vi.restoreAllMocks();
  await closeAll();
});

test("LIM-1: messages past 100 at once and 50 a second are refused, each with a time", async () => {
  const service = await startService();
  onTestFinished(() => service.stop());
  const { url } = await fleetWith(
    {},
    {
      services: { any: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "*", service: "any", path: "/", mode: "call" }],
    },
  );
  const client = await connectClient(url);
  stopTime();
  const queued = await Promise.all(Array.from({ length: 100 }, () => client.request("card.move", {})));
  expect(queued.every(({ ok }) => ok)).toBe(true);
  const more = await Promise.all(Array.from({ length: 200 }, () => client.request("card.move", {})));
  const refused = more.filter(({ ok }) => !ok);
  expect(refused.length).toBe(200);
  expect(refused[0]?.error).toMatchObject({ code: "rate_limited", retryable: true });
  expect(refused.at(-1)?.error?.retryAfterMs).toBeGreaterThan(refused[0]?.error?.retryAfterMs ?? Infinity);
  expect(service.requests.length).toBe(300 - refused.length);
});

test("LIM-2: a client that reconnects subscribes to all its channels at once and reads each", async () => {
  const { url } = await fleetWith({}, { namespaces: { default: { presence: true } } });
  const client = await connectClient(url);
  const channels = Array.from({ length: 200 }, (_, i) => `board:${i}`);
  const acks = await Promise.all(
    channels.flatMap((channel) => [
      client.request("sync:subscribe", { channel }),
      client.request("sync:history", { channel, after: 0, limit: 1 }),
    ]),
  );
  expect(acks.filter(({ ok, error }: Answer) => !ok && error?.code === "rate_limited")).toEqual([]);
  const asked = await Promise.all(channels.map((channel) => client.request("sync:presence", { channel })));
  expect(asked.filter(({ ok }) => !ok)).toEqual([]);
  stopTime();
  const more = await Promise.all(
    Array.from({ length: 500 }, () => client.request("sync:presence", { channel: "board:0" })),
  );
  const refused = more.filter(({ error }) => error?.code === "rate_limited");
  expect(refused.length).toBeGreaterThan(100);
  expect(refused[0]?.error?.retryAfterMs).toBeGreaterThan(0);
});

test("LIM-16: an address whose connections begin sessions waits for none of them", async () => {
  const { url } = await fleetWith({});
  const delayed = vi.spyOn(RefusalDelay.prototype, "before");
  const token = await userToken();
  for (let round = 0; round < 12; round++) {
    const clients = await Promise.all(Array.from({ length: 40 }, async () => RawClient.connect(new URL(url), token)));
    for (const { socket } of clients) socket.destroy();
  }
  expect(delayed).not.toHaveBeenCalled();
  delayed.mockRestore();
});

test("LIM-3: a client is cut a thousand messages past its limit, and may reconnect", async () => {
  const { url } = await fleetWith({});
  const client = await connectClient(url);
  for (let i = 0; i < 1_500; i++) client.socket.emit("card.move", {});
  expect(await client.disconnected).toBe("transport close");
  await connectClient(url);
});

test.each(["40/other,", "40{}"])("LIM-7: a connection that sends %s without end is closed", async (packet) => {
  const { url } = await fleetWith({});
  const socket = await openRawWebsocket(new URL(url));
  rawSockets.push(socket);
  let received = "";
  socket.on("data", (chunk: Buffer) => (received += String(chunk)));
  socket.write(Buffer.concat(Array.from({ length: 1_000 }, () => textFrame(packet))));
  await new Promise((resolve) => socket.once("close", resolve));
  expect((received.match(/44[/{]/g) ?? []).length).toBeLessThanOrEqual(6);
});

test("LIM-4: past GATEWAY_SESSIONS_PER_USER every node refuses new sessions, but no resume", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { GATEWAY_SESSIONS_PER_USER: "2" },
  });
  fleets.push(fleet);
  const [one = "", other = ""] = fleet.urls;
  const clients = [await connectClient(one), await connectClient(other)];
  const token = await userToken();
  for (const url of [one, other]) {
    const refusal = await refusedConnect(url, { token });
    expect(refusal).toMatchObject({
      code: "rate_limited",
      retryable: true,
      retryAfterMs: expect.any(Number) as number,
    });
  }
  await connectClient(one, { sub: "bob" });
  const resumed = await connectClient(other, {}, { token: undefined, resume: clients[0]?.welcome.resumeToken });
  expect(resumed.welcome.resumed).toBe(true);
});

test("LIM-5: past GATEWAY_CONNECTIONS_PER_ADDRESS only that address is refused", async () => {
  const { url } = await fleetWith({ GATEWAY_CONNECTIONS_PER_ADDRESS: "2", TRUSTED_PROXIES: "127.0.0.1" });
  const from = async (
    address: string,
  ): Promise<{ socket: ReturnType<typeof io>; refusal: ConnectRefusal | undefined }> => {
    const socket = io(url, {
      transports: ["websocket"],
      forceNew: true,
      reconnection: false,
      auth: { token: await userToken() },
      extraHeaders: { "x-forwarded-for": address },
    });
    return new Promise((resolve) => {
      socket.once("sync:welcome", () => resolve({ socket, refusal: undefined }));
      socket.once("connect_error", (error: Error & { data?: ConnectRefusal }) =>
        resolve({ socket, refusal: error.data }),
      );
    });
  };
  const here = [await from("192.0.2.1"), await from("192.0.2.1")];
  expect((await from("192.0.2.1")).refusal).toMatchObject({ code: "rate_limited", retryable: true });
  const there = await from("192.0.2.2");
  expect(there.refusal).toBeUndefined();
  here[0]?.socket.disconnect();
  await eventually(async () => (await from("192.0.2.1")).refusal === undefined);
  for (const { socket } of [...here, there]) socket.disconnect();
});

test("LIM-5: silent connections past twice GATEWAY_CONNECTIONS_PER_ADDRESS are not opened", async () => {
  const { url } = await fleetWith({ GATEWAY_CONNECTIONS_PER_ADDRESS: "2" });
  const opened = await Promise.all(Array.from({ length: 4 }, () => openRawWebsocket(new URL(url))));
  await expect(openRawWebsocket(new URL(url))).rejects.toThrow("503");
  for (const socket of opened) socket.destroy();
  await eventually(async () => {
    const socket = await openRawWebsocket(new URL(url)).catch(() => undefined);
    socket?.destroy();
    return socket !== undefined;
  });
});

test("LIM-5: past GATEWAY_CONNECTS_PER_ADDRESS an address is refused with a retry-after", async () => {
  const { url } = await fleetWith({ GATEWAY_CONNECTS_PER_ADDRESS: "3" });
  stopTime();
  const outcomes = await Promise.all(await enterTogether(url, 6, rawSockets));
  const refused = outcomes.find((outcome) => outcome !== "admitted");
  expect(refused).toMatchObject({ code: "rate_limited", retryAfterMs: expect.any(Number) as number });
});

test("LIM-5: past twice GATEWAY_CONNECTS_PER_ADDRESS a second a connection is refused before it opens", async () => {
  const { url } = await fleetWith({ GATEWAY_CONNECTS_PER_ADDRESS: "3" });
  const attempts = await Promise.allSettled(Array.from({ length: 100 }, async () => openRawWebsocket(new URL(url))));
  const rejected = attempts.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
  expect(rejected[0]).toContain("503");
  for (const result of attempts) if (result.status === "fulfilled") result.value.destroy();
});

test.for([
  ["127.0.0.1", "198.51.100.7", "198.51.100.7"],
  ["127.0.0.0/8, 10.0.0.0/8", "203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"],
  ["10.0.0.0/8", "198.51.100.7", "127.0.0.1"],
  ["", "198.51.100.7", "127.0.0.1"],
  ["127.0.0.1", "nonsense", "127.0.0.1"],
  ["127.0.0.1", "203.0.113.7:51234", "203.0.113.7"],
  ["127.0.0.1", "[2001:db8::7]:51234", "2001:db8::7"],
  ["127.0.0.1", "198.51.100.7, [2001:db8::7]", "2001:db8::7"],
  ["127.0.0.0/8, 2001:db8::/32", "198.51.100.7:80, , [2001:db8::9]:443", "198.51.100.7"],
])(
  "LIM-6: TRUSTED_PROXIES %s, X-Forwarded-For %s: the connect hook gets %s",
  async ([trusted = "", forwarded = "", address]) => {
    const hook = await startService();
    onTestFinished(() => hook.stop());
    const { url } = await fleetWith(
      { TRUSTED_PROXIES: trusted },
      { services: { gate: { url: hook.url, secret: serviceSecret } }, hooks: { connect: "gate" } },
    );
    const socket = io(url, {
      transports: ["websocket"],
      forceNew: true,
      auth: { token: await userToken() },
      extraHeaders: { "x-forwarded-for": forwarded },
    });
    await new Promise((resolve) => socket.once("sync:welcome", resolve));
    expect(JSON.parse(hook.requests[0]?.body ?? "{}")).toMatchObject({ address });
    socket.disconnect();
  },
);

test("LIM-6: the gateway does not start with TRUSTED_PROXIES that is no address or network", async () => {
  await expect(startFleet({ environment: { TRUSTED_PROXIES: "10.0.0.0/8,nowhere" } })).rejects.toThrow(
    "TRUSTED_PROXIES",
  );
});
