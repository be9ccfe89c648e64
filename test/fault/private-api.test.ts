/** Private API processes killed or stopped under running calls. */
import type { ServerResponse } from "node:http";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createGateway, type Gateway } from "../../gateway/gateway.ts";
import { gatewaySettings } from "../../gateway/config.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { eventually } from "../support/eventually.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { jwtSecret, serviceSecret, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { quietLogger } from "../support/logger.ts";
import { spawnPrivateApi } from "../support/private-api-process.ts";
import { freePort, type Spawned } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";
import { type Answer, closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let redis: RedisServer;
let service: HttpService;
let stores: Stores;
let gateway: Gateway;
let ports: number[];
const running: (Spawned | undefined)[] = [];

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
  service.answer = (_request, response) => answerJson(response, "done");
  ports = [await freePort(), await freePort()];
  stores = createStores({ kind: "standalone", url: redis.url }, quietLogger);
  await stores.start();
  const document = {
    services: { work: { url: service.url, secret: serviceSecret, timeoutMs: 10_000, maxInFlight: 500 } },
    routes: [{ event: "work", service: "work", path: "/", mode: "call" as const }],
  };
  await stores.rulesStore.put({ document, changedAt: Date.now() });
  // They read the rules before they listen.
  await Promise.all(ports.map((_, which) => startPrivateApi(which)));
  const config = gatewaySettings.read(
    {
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: "0",
      GATEWAY_ADMIN_PORT: "0",
      GATEWAY_MESSAGES_PER_SECOND: "100000",
      AUTH_JWT_SECRET: jwtSecret,
      PRIVATE_API_TOKEN: tokens.relay,
      PRIVATE_API_URL: ports.map((port) => `http://127.0.0.1:${port}`).join(","),
    },
    { embedded: true },
  );
  gateway = createGateway({ config, environment: {}, ...stores, logger: quietLogger });
  await gateway.start();
});
afterEach(closeClients);
afterAll(async () => {
  await gateway.stop();
  await stores.stop();
  for (const process of running) process?.kill("SIGKILL");
  await service.stop();
  await redis.stop();
});

async function startPrivateApi(which: number): Promise<void> {
  const { process } = await spawnPrivateApi({ PRIVATE_API_PORT: String(ports[which]), REDIS_URL: redis.url });
  running[which] = process;
}

/** Calls without a pause until stopped. @returns every answer. */
function callContinuously(clients: readonly StockClient[]): { answers: Answer[]; stop: () => Promise<void> } {
  const answers: Answer[] = [];
  const callers = clients.flatMap((client) =>
    Array.from({ length: 10 }, () => repeat(async () => answers.push(await client.request("work", {})))),
  );
  return { answers, stop: async () => void (await Promise.all(callers.map(async (caller) => caller.stop()))) };
}

async function clients(): Promise<StockClient[]> {
  return Promise.all([1, 2, 3].map(() => connectClient(`http://127.0.0.1:${gateway.publicDoor.port}`)));
}

/** Holds back the service's answers until `release`. Resolves once `count` calls have reached the service. */
async function holdCalls(count: number): Promise<{ release: () => void }> {
  const held: ServerResponse[] = [];
  service.answer = (_request, response) => void held.push(response);
  await eventually(() => held.length === count);
  return {
    release: () => {
      service.answer = (_request, response) => answerJson(response, "done");
      for (const response of held) answerJson(response, "done");
    },
  };
}

async function answersGrow(answers: readonly Answer[], by: number): Promise<void> {
  const until = answers.length + by;
  await eventually(() => answers.length >= until);
}

test("RELAY-1: only calls sent to a killed process fail, as upstream_timeout; no websocket drops", async () => {
  const connected = await clients();
  const { answers, stop } = callContinuously(connected);
  for (const which of [0, 1]) {
    await answersGrow(answers, 300);
    const calls = await holdCalls(30);
    const before = answers.length;
    running[which]?.kill("SIGKILL");
    await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 1);
    calls.release();
    await answersGrow(answers, 300);
    // Calls through the killed process fail, calls through the other do not.
    const lost = answers.slice(before).filter((answer) => !answer.ok).length;
    expect(lost).toBeGreaterThan(0);
    expect(lost).toBeLessThan(30);
    await running[which]?.exited;
    await startPrivateApi(which);
    await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 2);
  }
  await answersGrow(answers, 300);
  await stop();
  const failed = answers.filter((answer) => !answer.ok);
  expect(new Set(failed.map((answer) => answer.error?.code))).toEqual(new Set(["upstream_timeout"]));
  expect(failed.every((answer) => answer.error?.retryable)).toBe(true);
  expect(connected.every((client) => client.socket.connected)).toBe(true);
});

test("RELAY-2: no call fails while processes are stopped one after the other", async () => {
  const connected = await clients();
  const { answers, stop } = callContinuously(connected);
  for (const which of [0, 1]) {
    await answersGrow(answers, 200);
    const calls = await holdCalls(30);
    running[which]?.kill("SIGTERM");
    await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 1);
    calls.release();
    expect(await running[which]?.exited).toBe(0);
    await startPrivateApi(which);
    await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 2);
  }
  await answersGrow(answers, 200);
  await stop();
  expect(answers.filter((answer) => !answer.ok)).toEqual([]);
});

test("RELAY-3: with every process gone, a call fails as upstream_unavailable and the websocket stays", async () => {
  const [client] = await clients();
  for (const process of running) {
    process?.kill("SIGKILL");
    await process?.exited;
  }
  await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 0);
  const answer = await client?.request("work", {});
  expect(answer?.error).toMatchObject({ code: "upstream_unavailable", retryable: true });
  expect(client?.socket.connected).toBe(true);
  await Promise.all(ports.map((_, which) => startPrivateApi(which)));
  await eventually(async () => (await client?.request("work", {}))?.ok === true);
});

test("RELAY-4: a process that hangs gets no call after its first unanswered one, and is disconnected", async () => {
  const [client] = await clients();
  await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 2);
  const hanging = running[0];
  hanging?.kill("SIGSTOP");
  if (!client) throw new Error("no client");
  const acks = await Promise.all(Array.from({ length: 20 }, () => client.request("work", {}, { timeoutMs: 1_500 })));
  const failed = acks.filter((ack) => !ack.ok);
  expect(failed.length).toBeGreaterThan(0);
  expect(new Set(failed.map((ack) => ack.error?.code))).toEqual(new Set(["upstream_timeout"]));
  await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 1);
  for (let i = 0; i < 20; i++) expect((await client.request("work", {})).ok).toBe(true);
  hanging?.kill("SIGCONT");
  await eventually(async () => (await metricOf(gateway, "private_apis_connected")) === 2);
});
