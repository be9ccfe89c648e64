/** Crowds of clients: how many a node admits, how fast, and in which order. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Welcome } from "../../shared/protocol/wire.ts";
import { answerTo, crowdsOf, enterTogether, type OneFleet, stopTime } from "../support/crowds.ts";
import { eventually } from "../support/eventually.ts";
import { serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { openRawWebsocket, textFrame, upgradeRequest } from "../support/raw-websocket.ts";
import { startRedis } from "../support/redis.ts";
import { connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

const { fleets, rawSockets, fleetWith, closeAll } = crowdsOf();
afterEach(async () => {
  vi.restoreAllMocks();
  await closeAll();
});

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
  const letTimePass = stopTime();
  const answering = answersTo(sockets, request);
  await eventually(async () => (await metricOf(gateway, "upgrades_refused_total")) === 600);
  letTimePass();
  const answers = await answering;
  const refused = answers.filter((answer) => answer.startsWith("HTTP/1.1 503"));
  // On a slow machine some of those that waited are refused later.
  expect(refused.length).toBeGreaterThanOrEqual(600);
  expect(await metricOf(gateway, "upgrades_refused_total")).toBe(refused.length);
  expect(refused.every((answer) => /\r\nretry-after: [1-9]\d*\r\n/i.test(answer))).toBe(true);
  return answers;
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
  const [gateway] = gateways;
  if (!gateway) throw new Error("there is no gateway");
  const letTimePass = stopTime();
  const entering = await enterTogether(url, 12, rawSockets);
  await eventually(async () => (await metricOf(gateway, "handshakes_waiting")) >= 6);
  letTimePass();
  expect(new Set(await Promise.all(entering))).toEqual(new Set(["admitted"]));
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
  const waiting = async (): Promise<number> => metricOf(gateways[0], "handshakes_waiting");
  const letTimePass = stopTime();
  const cold = Array.from({ length: 4 }, (_, i) => enter(`cold ${i}`, {}));
  const forged = enter("forged", { resume: `${first.welcome.resumeToken?.slice(0, -4)}AAAA` });
  await eventually(async () => (await waiting()) + order.length === 5);
  const before = [await waiting(), order.length] as const;
  const resumed = enter("resume", { token: undefined, resume: first.welcome.resumeToken });
  await eventually(async () => (await waiting()) + order.length === 6);
  letTimePass();
  await Promise.all([...cold, forged, resumed]);
  expect(before[0]).toBeGreaterThanOrEqual(4);
  expect(order.indexOf("resume")).toBe(before[1]);
});

test("ADM-3: handshakes that would wait too long are rate_limited, each with its own time", async () => {
  const { url } = await fleetWith({ GATEWAY_ADMISSIONS_PER_SECOND: "1" });
  stopTime();
  const refused: ConnectRefusal[] = [];
  for (const answer of await enterTogether(url, 20, rawSockets)) {
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
  stopTime();
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
  const [gateway] = gateways;
  if (!gateway) throw new Error("there is no gateway");
  const letTimePass = stopTime();
  const outcomes = Array.from({ length: 4 }, () => attempt(url));
  // All handshakes have arrived: a stopping node accepts no connection, and answers none.
  await eventually(async () => (await metricOf(gateway, "seats")) === 4);
  const waiting = await metricOf(gateway, "handshakes_waiting");
  letTimePass();
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
