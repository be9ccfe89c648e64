/** What bounds deliveries to an endpoint, and how one ends. */
import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FailingEndpoints } from "../../private-api/endpoints/failing-endpoints.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { CurrentRules } from "../../shared/rules/current-rules.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { spawnProcess } from "../support/processes.ts";

const rules = { namespaces: { board: { changes: true } } };
let fleet: Fleet;
let service: HttpService;
beforeAll(async () => {
  fleet = await startFleet({ rules, environment: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" } });
  service = await startService();
});
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

async function create(more: object): Promise<string> {
  const answer = await fleet.api("POST", "/v1/endpoints", { url: service.url, channels: ["board:*"], ...more });
  expect(answer.status, answer.text).toBe(201);
  return String(answer.body["id"]);
}

async function publish(channel: string, count: number): Promise<void> {
  const items = Array.from({ length: count }, (_, n) => ({ channel: `${channel}${n}`, event: "moved", data: n }));
  expect((await fleet.api("POST", "/v1/publish/batch", items)).status).toBe(200);
}

test("EP-21: an endpoint gets no more than its requests at once, and no more than its requests a second", async () => {
  let open = 0;
  let most = 0;
  service.answer = (_request, response) => {
    most = Math.max(most, ++open);
    setTimeout(() => {
      open--;
      response.end("{}");
    }, 30);
  };
  const before = service.requests.length;
  const id = await create({ channels: ["board:a*"], maxInFlight: 3 });
  await publish("board:a", 30);
  await eventually(() => service.requests.length >= before + 30);
  expect(most).toBe(3);
  await fleet.api("DELETE", `/v1/endpoints/${id}`);

  const slow = await create({ channels: ["board:b*"], perSecond: 10 });
  const arrivals: number[] = [];
  service.answer = (_request, response) => {
    arrivals.push(performance.now());
    response.end("{}");
  };
  const from = performance.now();
  await publish("board:b", 25);
  await eventually(() => arrivals.length >= 25, 20_000);
  // The first at once, 24 more at ten a second.
  expect((arrivals[24] ?? 0) - from).toBeGreaterThan(2_200);
  await fleet.api("DELETE", `/v1/endpoints/${slow}`);
});

test("EP-3: an endpoint whose filter matches nothing is sent nothing, and does not fall behind", async () => {
  service.answer = (_request, response) => response.end("{}");
  const before = service.requests.length;
  const others = await create({ url: `${service.url}/all`, channels: ["board:f*"] });
  const none = await create({ url: `${service.url}/none`, channels: ["board:g*", "other:*"], events: ["moved"] });
  const never = await create({ url: `${service.url}/none`, channels: ["board:f*"], events: ["never.*"] });
  await publish("board:f", 300);
  await eventually(() => service.requests.length >= before + 300, 20_000);
  for (const id of [none, never]) {
    expect((await fleet.api("GET", `/v1/endpoints/${id}`)).body).toMatchObject({ lag: { changes: 0, ms: 0 } });
  }
  // With another filter it begins with what is published from then on.
  await fleet.api("PATCH", `/v1/endpoints/${never}`, { events: ["moved"] });
  await publish("board:f-later-", 1);
  await eventually(() => service.requests.length >= before + 302);
  const own = service.requests.slice(before).filter(({ path }) => path === "/none");
  expect(own.map(({ body }) => (JSON.parse(body) as { channel: string }).channel)).toEqual(["board:f-later-0"]);
  for (const id of [others, none, never]) await fleet.api("DELETE", `/v1/endpoints/${id}`);
});

test("EP-22: what waits for a deleted endpoint leaves the queues", async () => {
  const id = await create({ channels: ["board:c*"] });
  await fleet.api("POST", `/v1/endpoints/${id}/pause`);
  await fleet.api("POST", `/v1/endpoints/${id}/resume`);
  service.answer = (_request, response) => response.writeHead(503, { "retry-after": "1" }).end();
  await publish("board:c", 5);
  const waiting = async (): Promise<number> => {
    const { body } = await fleet.api("GET", `/v1/queues`);
    const classes = body["classes"] as { class: string; waiting: number; inFlight: number }[];
    return classes
      .filter((each) => each.class === "endpoints")
      .reduce((sum, each) => sum + each.waiting + each.inFlight, 0);
  };
  await eventually(async () => (await waiting()) === 5);
  const sent = service.requests.length;
  await fleet.api("DELETE", `/v1/endpoints/${id}`);
  await eventually(async () => (await waiting()) === 0);
  expect(service.requests.length).toBeLessThanOrEqual(sent + 5);
});

test("EP-26: a process has 32 requests of test under way at most", async () => {
  const id = await create({ channels: ["board:e*"] });
  const held: ServerResponse[] = [];
  service.answer = (_request, response) => void held.push(response);
  const statuses: number[] = [];
  const tests = Array.from({ length: 33 }, async () => {
    statuses.push((await fleet.api("POST", `/v1/endpoints/${id}/test`)).status);
  });
  await eventually(() => held.length === 32 && statuses.length === 1);
  expect(statuses).toEqual([429]);
  for (const response of held) response.end("{}");
  await Promise.all(tests);
  expect(statuses.slice(1)).toEqual(Array.from({ length: 32 }, () => 200));
  service.answer = (_request, response) => response.end("{}");
  expect((await fleet.api("POST", `/v1/endpoints/${id}/test`)).status).toBe(200);
});

test("EP-19: an endpoint that failed for too long is disabled once, and that is published", async () => {
  const stores: Stores = createStores(undefined, quietLogger);
  const store = stores.endpointStore;
  const rules = new CurrentRules({
    ...{ store: stores.rulesStore, errors: quietErrors, logger: quietLogger },
    accept: () => undefined,
  });
  const failing = new FailingEndpoints({
    store,
    broker: stores.broker,
    rules,
    logger: quietLogger,
    failingMs: 1_000,
    changeBudget: { retention: () => ({ maxBytes: 1, maxSeconds: 1, unclaimedSeconds: 1 }) },
  });
  const stored = await store.create({
    ...{ id: "ep_1", url: "https://example.com", channels: ["*"], events: ["*"], mode: "live", key: "channel" },
    ...{ secrets: [], headers: {}, timeoutMs: 1, maxInFlight: 1 },
  });
  if (!stored) throw new Error("not created");
  const state = async (): Promise<string | undefined> => (await store.read("ep_1"))?.endpoint.halted;
  await failing.failed(stored, { status: 500, health: { failingSince: Date.now() - 500 } });
  expect(await state()).toBeUndefined();
  await failing.failed(stored, { status: 500, health: { failingSince: Date.now() - 1_500 } });
  await failing.failed(stored, { status: 410, health: { failingSince: Date.now() - 1_500 } });
  expect(await state()).toBe("disabled");
  const { publications } = await stores.broker.readHistory({
    ...{ channel: "tidegate:endpoints", retention: { historySize: 10, historySeconds: 10 }, limit: 10, maxBytes: 1e6 },
  });
  expect(publications).toMatchObject([{ offset: 1, event: "endpoint.disabled" }]);
  expect(JSON.parse(publications[0]?.data ?? "")).toMatchObject({
    id: "ep_1",
    reason: expect.stringContaining("failed since") as string,
  });
});

test("EP-23: the command lists endpoints, shows attempts and replays, for people and as JSON", async () => {
  service.answer = (_request, response) => response.end("{}");
  const id = await create({ channels: ["board:d0"] });
  await publish("board:d", 1);
  await eventually(async () => {
    const { body } = await fleet.api("GET", `/v1/endpoints/${id}/attempts`);
    return (body["items"] as unknown[]).length === 1;
  });
  const run = async (...args: string[]): Promise<{ code: number | null; output: string }> => {
    const command = spawnProcess(process.execPath, ["deploy/endpoints.ts", ...args], {
      env: { TIDEGATE_API_TOKEN: tokens.service },
    });
    return { code: await command.exited, output: command.output() };
  };
  const api = ["--api", fleet.apiUrl];
  const listed = await run("list", ...api);
  expect(listed.code, listed.output).toBe(0);
  expect(listed.output).toMatch(new RegExp(`^${id} +live +0 waiting`, "m"));
  const shown = await run("show", ...api, "--id", id, "--json");
  const [endpoint, attempt] = shown.output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as object);
  expect(endpoint).toMatchObject({ id, state: "live" });
  expect(attempt).toMatchObject({ attempt: 1, status: 200 });
  const before = service.requests.length;
  const replayed = await run("replay", ...api, "--id", id, "--from", "start");
  expect(replayed.code, replayed.output).toBe(0);
  await eventually(() => service.requests.length === before + 1);
  expect((await run("show", ...api)).code).toBe(78);
  expect((await run("list", ...api, "--colour")).code).toBe(78);
  expect((await run("show", ...api, "--id", "ep_none")).code).toBe(1);
});

test("EP-20: an endpoint whose past is gone gets a gap, then what the log has", async () => {
  const small = await startFleet({
    rules,
    environment: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8", CHANGES_MAX_BYTES: "20000" },
  });
  const endpoint = await startService();
  try {
    const created = await small.api("POST", "/v1/endpoints", {
      url: endpoint.url,
      channels: ["board:*"],
      events: ["kept"],
    });
    const path = `/v1/endpoints/${String(created.body["id"])}`;
    await small.api("POST", `${path}/pause`);
    const send = async (n: number): Promise<void> => {
      const data = { n, filler: "x".repeat(1_000) };
      const answer = await small.api("POST", "/v1/publish", { channel: "board:1", event: "kept", data });
      expect(answer.status, answer.text).toBe(200);
    };
    await send(0);
    // It fell behind before the log was cut.
    await eventually(async () => {
      const { body } = await small.api("GET", path);
      return (body["lag"] as { changes: number }).changes === 1;
    });
    for (let n = 1; n < 60; n++) await send(n);
    await small.api("POST", `${path}/resume`);
    await eventually(
      () => endpoint.requests.length > 1 && endpoint.requests.some(({ body }) => body.includes('"n":59,')),
    );
    const bodies = endpoint.requests.map(
      ({ body }) => JSON.parse(body) as { type: string; from?: number; to?: number; data?: { n: number } },
    );
    const gaps = bodies.filter(({ type }) => type === "tidegate.gap");
    expect(gaps).toMatchObject([{ from: expect.any(Number) as number, to: expect.any(Number) as number }]);
    const numbers = bodies.flatMap(({ data }) => (data ? [data.n] : []));
    expect(numbers[0]).toBeGreaterThan(0);
    expect(numbers).toEqual(Array.from({ length: 60 - (numbers[0] ?? 0) }, (_, n) => n + (numbers[0] ?? 0)));
  } finally {
    await small.stop();
    await endpoint.stop();
  }
});
