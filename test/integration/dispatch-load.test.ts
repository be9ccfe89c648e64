/** The load of dispatchers over two private API processes on one Redis. */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let service: HttpService;
/** The second one has no dispatcher: it knows the load of the first one's from Redis. */
let fleets: readonly [Fleet, Fleet];

beforeAll(async () => {
  // A busy machine makes the event loop of any process look busy.
  vi.spyOn(performance, "eventLoopUtilization").mockReturnValue({ idle: 1, active: 0, utilization: 0 });
  [redis, service] = await Promise.all([startRedis(), startService()]);
  const target = { kind: "standalone", url: redis.url } as const;
  const one = await startFleet({
    target,
    environment: { DISPATCH_CONCURRENCY: "4" },
    rules: {
      services: { documents: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ event: "edit", service: "documents", path: "/", mode: "enqueue", key: "/doc" }],
    },
  });
  fleets = [one, await startFleet({ target, gateways: 0, environment: { DISPATCH_CONCURRENCY: "0" } })];
});
afterAll(async () => {
  vi.restoreAllMocks();
  closeClients();
  for (const fleet of fleets) await fleet.stop();
  await Promise.all([redis.stop(), service.stop()]);
});

async function loadAt(fleet: Fleet): Promise<{ factor: number; desired: number }> {
  const { body } = await fleet.api("GET", "/v1/load", undefined, { token: tokens.reader });
  return body["dispatchers"] as { factor: number; desired: number };
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${fleets[1].apiUrl}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`tidegate_${name} `));
  return Number(line?.split(" ")[1]);
}

test("LOAD-7: every private API answers with the load of all dispatchers, as JSON and metrics", async () => {
  const held: (() => void)[] = [];
  service.answer = (_request, response) => held.push(() => answerJson(response, {}));
  const client = await connectClient(fleets[0].urls[0] ?? "");
  await eventually(async () => (await metric("dispatchers")) === 1);
  expect(await loadAt(fleets[1])).toMatchObject({ desired: 1 });
  for (let doc = 0; doc < 40; doc++) await client.request("edit", { doc });
  // Three workers for first attempts, all of them busy, and more items wait.
  await eventually(async () => {
    const { factor, desired } = await loadAt(fleets[1]);
    return factor > 1 && desired > 1;
  });
  expect(await metric("dispatchers_load_factor")).toBeGreaterThan(1);
  expect(await metric("dispatchers_desired")).toBeGreaterThan(1);
  let done = 0;
  service.answer = (_request, response) => {
    done++;
    answerJson(response, {});
  };
  for (const answer of held.splice(0)) answer();
  await eventually(() => done === 37);
  await eventually(async () => {
    const { factor, desired } = await loadAt(fleets[1]);
    return factor < 0.5 && desired === 1;
  });
});

test("LOAD-7: a dispatcher that stops in order leaves at once", async () => {
  await fleets[0].stop();
  await eventually(async () => (await metric("dispatchers")) === 0);
  expect(await loadAt(fleets[1])).toEqual({ factor: 0, desired: 1 });
});
