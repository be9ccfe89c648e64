/** Crowds of clients, and clients that send or use too much. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { io } from "socket.io-client";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Welcome } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { RawClient } from "../support/raw-client.ts";
import { openRawWebsocket, textFrame, upgradeRequest } from "../support/raw-websocket.ts";
import { startRedis } from "../support/redis.ts";
import { type Answer, closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

const fleets: Fleet[] = [];
const rawSockets: Socket[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  closeClients();
  for (const socket of rawSockets.splice(0)) socket.destroy();
  for (const fleet of fleets.splice(0)) await fleet.stop();
});

type OneFleet = Fleet & { url: string };

async function fleetWith(environment: Record<string, string>, rules?: object): Promise<OneFleet> {
  const fleet = await startFleet({ environment, ...(rules && { rules }) });
  fleets.push(fleet);
  return { ...fleet, url: fleet.urls[0] ?? "" };
}

/** Resolves with the welcome or the refusal. */
async function attempt(url: string, auth: object = {}): Promise<Welcome | ConnectRefusal> {
  const client = await connectClient(url, {}, auth).catch((error: Error & { data?: ConnectRefusal }) => error);
  if (!("welcome" in client)) {
    if (!client.data) throw client;
    return client.data;
  }
  return client.welcome;
}

/** @param localAddress any of 127.0.0.0/8 belongs to this machine. */
async function connections(url: string, count: number, localAddress = "127.0.0.1"): Promise<Socket[]> {
  const { port, hostname } = new URL(url);
  return Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect({ port: Number(port), host: hostname, localAddress });
      rawSockets.push(socket);
      await once(socket, "connect");
      socket.on("error", () => socket.destroy());
      return socket;
    }),
  );
}

/** The first answer on each socket; all requests are sent at once. @param request of the socket with this index. */
async function answersTo(sockets: readonly Socket[], request: (i: number) => string): Promise<string[]> {
  return Promise.all(sockets.map(async (socket, i) => answerTo(socket, request(i))));
}

/**
 * The answers to 900 connections. No time passes for the gate while they arrive, however long that takes: it opens a hundred, two
 * hundred wait, and it refuses all others.
 */
async function answersToCrowd({ url, gateways }: OneFleet, request: (i: number) => string): Promise<string[]> {
  const [gateway] = gateways;
  if (!gateway) throw new Error("there is no gateway");
  const sockets = await connections(url, 900);
  const arrivedAt = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(arrivedAt);
  const answering = answersTo(sockets, request);
  await eventually(async () => (await metricOf(gateway, "upgrades_refused_total")) === 600);
  const refusedAt = Date.now();
  clock.mockImplementation(() => arrivedAt + Date.now() - refusedAt);
  const answers = await answering;
  const refused = answers.filter((answer) => answer.startsWith("HTTP/1.1 503"));
  // On a slow machine some of those that waited are refused later.
  expect(refused.length).toBeGreaterThanOrEqual(600);
  expect(await metricOf(gateway, "upgrades_refused_total")).toBe(refused.length);
  expect(refused.every((answer) => /\r\nretry-after: [1-9]\d*\r\n/i.test(answer))).toBe(true);
  return answers;
}

async function answerTo(socket: Socket, request: string | Buffer): Promise<string> {
  socket.write(request);
  return String((await once(socket, "data"))[0]);
}

/**
 * Opens websockets, then sends a handshake on each of them, all in one turn: the rate at which they arrive does not depend on
 * the speed of the machine.
 * @returns for each whether it is admitted, or its refusal, once it is known.
 */
async function enterTogether(url: string, count: number): Promise<Promise<"admitted" | ConnectRefusal>[]> {
  const sockets = await Promise.all(Array.from({ length: count }, () => openRawWebsocket(new URL(url))));
  rawSockets.push(...sockets);
  const handshake = textFrame(`40${JSON.stringify({ token: await userToken() })}`);
  return sockets.map(async (socket) => {
    const [, refused] = /44(\{.*\})/.exec(await answerTo(socket, handshake)) ?? [];
    return refused === undefined ? "admitted" : (JSON.parse(refused) as { data: ConnectRefusal }).data;
  });
}

const refusals = (outcomes: (Welcome | ConnectRefusal)[]): ConnectRefusal[] =>
  outcomes.filter((one): one is ConnectRefusal => "code" in one);

test("CON-4: exactly the cap is admitted; all other clients get a reconnect time", async () => {
  const { url, gateways } = await fleetWith({ GATEWAY_MAX_CONNECTIONS: "20" });
  const outcomes = await Promise.all(Array.from({ length: 60 }, () => attempt(url)));
  const refused = refusals(outcomes);
  expect(await metricOf(gateways[0], "sessions")).toBe(20);
  expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(["at_capacity"]));
  expect(refused).toHaveLength(40);
  expect(refused.every(({ retryAfterMs = 0 }) => retryAfterMs >= 5_000)).toBe(true);
});

test("ADM-2: handshakes beyond the rate wait, and are admitted one after the other", async () => {
  const { url, gateways } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "5" });
  const outcomes = await Promise.all(await enterTogether(url, 12));
  expect(new Set(outcomes)).toEqual(new Set(["admitted"]));
  const [gateway] = gateways;
  if (!gateway) throw new Error("there is no gateway");
  expect(await metricOf(gateway, 'admission_wait_seconds_bucket{le="0.1",kind="cold"}')).toBeLessThan(8);
});

test("ADM-2: a resume overtakes waiting clients; a forged resume token does not", async () => {
  const { url, gateways } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "3" });
  const first = await connectClient(url);
  first.socket.disconnect();
  const order: string[] = [];
  const enter = async (name: string, auth: object): Promise<void> => {
    await connectClient(url, { sub: name }, auth);
    order.push(name);
  };
  const cold = Array.from({ length: 4 }, (_, i) => enter(`cold ${i}`, {}));
  const forged = enter("forged", { resume: `${first.welcome.resumeToken?.slice(0, -4)}AAAA` });
  await eventually(async () => gateways[0] !== undefined && (await metricOf(gateways[0], "handshakes_waiting")) >= 4);
  await enter("resume", { token: undefined, resume: first.welcome.resumeToken });
  expect(order.length).toBeLessThanOrEqual(3);
  await Promise.all([...cold, forged]);
});

test("ADM-3: handshakes that would wait too long are rate_limited, each with its own time", async () => {
  const { url } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  const refused: ConnectRefusal[] = [];
  for (const answer of await enterTogether(url, 20)) {
    void answer.then((one) => one !== "admitted" && refused.push(one));
  }
  await eventually(() => refused.length >= 14);
  expect(refused.every(({ code, retryable }) => code === "rate_limited" && retryable)).toBe(true);
  const times = refused.map(({ retryAfterMs = 0 }) => retryAfterMs).sort((a, b) => a - b);
  // One a second: 14 of them take 13 s.
  expect((times[13] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(12_000);
});

test("ADM-5: arrivals past the gate rate get a 503 with Retry-After; health checks are served", async () => {
  const fleet = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  const answers = await answersToCrowd(fleet, () => upgradeRequest(new URL(fleet.url)));
  expect(answers.filter((answer) => answer.startsWith("HTTP/1.1 101")).length).toBeGreaterThanOrEqual(200);
  expect((await fetch(`http://127.0.0.1:${fleet.gateways[0]?.adminDoor.port}/livez`)).status).toBe(200);
});

test("ADM-5: an upgrade with an empty connection id waits like any other", async () => {
  const fleet = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  const queries = ["&sid=", "&sid=x&sid=", "&sid=#"];
  await answersToCrowd(fleet, (i) => upgradeRequest(new URL(fleet.url), queries[i % queries.length]));
});

test("RET-1: refused connections of one address delay those of others only briefly", async () => {
  const { url } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  const { port, hostname } = new URL(url);
  /** @returns the seconds in the Retry-After of each refusal, as they come. */
  const ask = (count: number, localAddress: string): number[] => {
    const refusedSeconds: number[] = [];
    for (let i = 0; i < count; i++) {
      const socket = connect({ port: Number(port), host: hostname, localAddress });
      rawSockets.push(socket);
      socket.on("error", () => socket.destroy());
      socket.once("data", (answer: Buffer) => {
        const [, seconds] = /\r\nRetry-After: (\d+)\r\n/.exec(String(answer)) ?? [];
        if (seconds !== undefined) refusedSeconds.push(Number(seconds));
      });
      socket.write(upgradeRequest(new URL(url)));
    }
    return refusedSeconds;
  };
  // No time passes for the gate: it opens a hundred connections, two hundred wait, and it refuses all others.
  const now = performance.now();
  vi.spyOn(performance, "now").mockReturnValue(now);
  const greedy = ask(1_500, "127.0.0.1");
  await eventually(() => greedy.length === 1_200);
  expect(Math.max(...greedy)).toBeGreaterThan(10);
  const others = ask(20, "127.0.0.2");
  await eventually(() => others.length === 20);
  expect(Math.min(...others)).toBeGreaterThan(0);
  expect(Math.max(...others)).toBeLessThan(10);
});

test("ADM-5: the first polling request gets the same 503", async () => {
  const fleet = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1", GATEWAY_TRANSPORTS: "polling,websocket" });
  const request = `GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: ${new URL(fleet.url).host}\r\n\r\n`;
  const answers = await answersToCrowd(fleet, () => request);
  const others = answers.filter((answer) => !answer.startsWith("HTTP/1.1 503"));
  expect(others.filter((answer) => !answer.startsWith("HTTP/1.1 200"))).toEqual([]);
});

test("ADM-7: a stopping node refuses the handshakes in its queue with draining", async () => {
  const { url, gateways, stop } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  const outcomes = Array.from({ length: 4 }, () => attempt(url));
  const [gateway] = gateways;
  if (!gateway) throw new Error("there is no gateway");
  // All handshakes have arrived: a stopping node accepts no connection, and answers none.
  await eventually(async () => (await metricOf(gateway, "seats")) === 4);
  const waiting = await metricOf(gateway, "handshakes_waiting");
  const stopped = stop();
  const codes = refusals(await Promise.all(outcomes)).map(({ code }) => code);
  // One a second is admitted: one of those that waited may have been.
  expect(waiting).toBeGreaterThanOrEqual(2);
  expect(codes.filter((code) => code === "draining").length).toBeGreaterThanOrEqual(waiting - 1);
  await stopped;
  fleets.length = 0;
});

test("ADM-7: a handshake under check while the node stops is refused with draining", async () => {
  const hook = await startService();
  onTestFinished(() => hook.stop());
  let answer = (): void => undefined;
  hook.answer = (_request, response) => (answer = () => answerJson(response, {}));
  const { url, gateways } = await fleetWith(
    {},
    { services: { gate: { url: hook.url, secret: serviceSecret } }, hooks: { connect: "gate" } },
  );
  const outcomes = attempt(url);
  await eventually(() => hook.requests.length === 1);
  const stopped = gateways[0]?.stop();
  answer();
  expect(await outcomes).toMatchObject({ code: "draining", retryable: true });
  await stopped;
});

test("ADM-8: while Redis is away, resumes are admitted and new sessions do not queue", async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
  fleets.push(fleet);
  const [url = ""] = fleet.urls;
  const [gateway] = fleet.gateways;
  if (!gateway) throw new Error("there is no gateway");
  const client = await connectClient(url);
  client.socket.disconnect();
  await redis.kill();
  await eventually(async () => (await refusedConnect(url, { token: await userToken() })).code === "broker_unavailable");
  const before = await metricOf(gateway, 'admissions_total{kind="cold"}');
  const refusal = await refusedConnect(url, { token: await userToken() });
  expect(refusal).toMatchObject({ code: "broker_unavailable", retryable: true });
  expect(refusal.retryAfterMs).toBeGreaterThan(0);
  expect(await metricOf(gateway, 'admissions_total{kind="cold"}')).toBe(before);
  const { welcome } = await connectClient(url, {}, { token: undefined, resume: client.welcome.resumeToken });
  expect(welcome.resumed).toBe(true);
});

test("END-5: a refused connection is closed soon, before one that sends nothing", async () => {
  const { url } = await fleetWith({});
  const silent = await openRawWebsocket(new URL(url));
  const refused = await openRawWebsocket(new URL(url));
  rawSockets.push(silent, refused);
  refused.write(textFrame('40{"token":"x"}'));
  refused.resume();
  // The client does not answer the closing handshake: the node resets the connection.
  await new Promise((resolve) => refused.once("close", resolve));
  expect(silent.destroyed).toBe(false);
});

test("WIN-1: the reconnect window grows with the sessions of the node, which are notified", async () => {
  const { url } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  const client = await connectClient(url);
  expect(client.welcome.reconnect).toEqual({ minDelayMs: 0, windowMs: 1_000 });
  const { data } = await client.next(({ event }) => event === "sync:policy");
  expect(data).toEqual({ reconnect: { minDelayMs: 0, windowMs: 1_429 } });
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
  const queued = await Promise.all(Array.from({ length: 100 }, () => client.request("card.move", {})));
  expect(queued.every(({ ok }) => ok)).toBe(true);
  const more = await Promise.all(Array.from({ length: 200 }, () => client.request("card.move", {})));
  const refused = more.filter(({ ok }) => !ok);
  expect(refused.length).toBeGreaterThan(100);
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
  const outcomes = await Promise.all(await enterTogether(url, 6));
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
