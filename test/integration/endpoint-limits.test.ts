/** What bounds deliveries to an endpoint, and how one ends. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EndpointApi } from "../../deploy/endpoint-api.ts";
import { goLiveAfterReference } from "../../deploy/endpoints/cut-over.ts";
import { FailingEndpoints } from "../../private-api/endpoints/failing-endpoints.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { CurrentRules } from "../../shared/rules/current-rules.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
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
  const open: ServerResponse[] = [];
  let most = 0;
  const before = service.requests.length;
  const answerAll = async (): Promise<void> => {
    // A request too many would come within these turns.
    for (let turns = 0; turns < 20; turns++) await nextTurn();
    for (const response of open.splice(0)) response.end("{}");
  };
  service.answer = (_request, response) => {
    most = Math.max(most, open.push(response));
    if (most >= 3) void answerAll();
  };
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
  await eventually(() => arrivals.length >= 25);
  // The first at once, 24 more at ten a second.
  expect((arrivals[24] ?? 0) - from).toBeGreaterThan(2_200);
  await fleet.api("DELETE", `/v1/endpoints/${slow}`);
});

test("EP-21: an endpoint that is changed while it answers nothing gets no further requests", async () => {
  const open: ServerResponse[] = [];
  service.answer = ({ path }, response) => {
    if (path === "/slow") open.push(response);
    else response.end();
  };
  const slow = await create({ url: `${service.url}/slow`, channels: ["board:i*"], maxInFlight: 2 });
  const witness = await create({ url: `${service.url}/witness`, channels: ["board:i*"] });
  await publish("board:i-first-", 1);
  await eventually(() => open.length === 1);
  open[0]?.end();
  await publish("board:i", 20);
  await eventually(() => open.length === 3);
  for (let n = 0; n < 3; n++) {
    await fleet.api("PATCH", `/v1/endpoints/${slow}`, { description: String(n) });
    await publish(`board:i-${n}-`, 1);
    const witnessed = (): boolean =>
      service.requests.some(({ path, body }) => path === "/witness" && body.includes(`"board:i-${n}-0"`));
    await eventually(witnessed);
    // A request too many would come within these turns.
    for (let turns = 0; turns < 20; turns++) await nextTurn();
  }
  expect(open.length).toBe(3);
  service.answer = (_request, response) => response.end();
  for (const response of open) response.end();
  for (const id of [slow, witness]) await fleet.api("DELETE", `/v1/endpoints/${id}`);
});

test("EP-3: an endpoint whose filter matches nothing is sent nothing, and does not fall behind", async () => {
  service.answer = (_request, response) => response.end("{}");
  const before = service.requests.length;
  const others = await create({ url: `${service.url}/all`, channels: ["board:f*"] });
  const none = await create({ url: `${service.url}/none`, channels: ["board:g*", "other:*"], events: ["moved"] });
  const never = await create({ url: `${service.url}/none`, channels: ["board:f*"], events: ["never.*"] });
  await publish("board:f", 300);
  await eventually(() => service.requests.length >= before + 300);
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

test("EP-5: after a Retry-After an endpoint is sent nothing, whatever the key, until it is changed", async () => {
  const busy = await create({ url: `${service.url}/busy`, channels: ["board:h*"] });
  const other = await create({ url: `${service.url}/other`, channels: ["board:h*"] });
  const sentTo = (path: string): number => service.requests.filter((request) => request.path === path).length;
  service.answer = ({ path }, response) => {
    if (path === "/busy") response.writeHead(429, { "retry-after": "3600" });
    response.end();
  };
  await publish("board:h-first-", 1);
  await eventually(() => sentTo("/busy") === 1 && sentTo("/other") === 1);
  await publish("board:h", 20);
  // Those for both endpoints were queued together.
  await eventually(() => sentTo("/other") === 21);
  expect(sentTo("/busy")).toBe(1);
  service.answer = (_request, response) => response.end();
  await fleet.api("PATCH", `/v1/endpoints/${busy}`, { maxInFlight: 8 });
  await eventually(() => sentTo("/busy") === 21);
  for (const id of [busy, other]) await fleet.api("DELETE", `/v1/endpoints/${id}`);
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
    failingMs: 60_000,
    changeBudget: { retention: () => ({ maxBytes: 1, maxSeconds: 1, unclaimedSeconds: 1 }) },
  });
  const stored = await store.create({
    ...{ id: "ep_1", url: "https://example.com", channels: ["*"], events: ["*"], mode: "live", key: "channel" },
    ...{ secrets: [], headers: {}, timeoutMs: 1, maxInFlight: 1 },
  });
  if (!stored) throw new Error("not created");
  const state = async (): Promise<string | undefined> => (await store.read("ep_1"))?.endpoint.halted;
  await failing.failed(stored, { status: 500, health: { failingSince: Date.now() - 1_000 } });
  expect(await state()).toBeUndefined();
  await failing.failed(stored, { status: 500, health: { failingSince: Date.now() - 61_000 } });
  await failing.failed(stored, { status: 410, health: { failingSince: Date.now() - 61_000 } });
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

test("EP-23: tail says so where attempts come faster than it can show them", async () => {
  let asked = 0;
  // Three attempts of the log at a time: the second page follows the first one, the third does not follow the second.
  const pages = [
    [1, 2, 3],
    [3, 4, 5],
    [9, 10, 11],
  ];
  const api = await startService();
  api.answer = (_request, response) => {
    const numbers = pages[Math.min(asked++, 2)] ?? [];
    const items = numbers.map((n) => ({ at: n, changeId: `msg_${n}`, attempt: 1, status: 200, ms: 1 }));
    answerJson(response, { items: items.toReversed() });
  };
  const command = spawnProcess(process.execPath, ["deploy/endpoints.ts", "tail", "--id", "ep_1", "--api", api.url], {
    env: { TIDEGATE_API_TOKEN: tokens.service },
  });
  try {
    const shown = (): string[] => command.output().match(/msg_\d+/g) ?? [];
    await eventually(() => shown().includes("msg_11") && command.output().includes("some are not shown"));
    expect(shown()).toEqual(["msg_4", "msg_5", "msg_9", "msg_10", "msg_11"]);
  } finally {
    command.child.kill();
    await command.exited;
    await api.stop();
  }
});

test("CUT-2: a shadow whose ledger has a gap goes live once it was moved past it", async () => {
  const small = await startFleet({
    ...{ rules, gateways: 0 },
    environment: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8", CHANGES_MAX_BYTES: "20000" },
  });
  const endpoint = await startService();
  try {
    const created = await small.api("POST", "/v1/endpoints", {
      ...{ url: endpoint.url, channels: ["board:*"], mode: "shadow" },
    });
    const path = `/v1/endpoints/${String(created.body["id"])}`;
    let cursor: unknown;
    for (let n = 0; n < 60; n++) {
      const data = { n, filler: "x".repeat(1_000) };
      await small.api("POST", "/v1/publish", { channel: "board:1", event: "kept", data });
      cursor ??= (await small.api("GET", "/v1/changes")).body["cursor"];
    }
    const goLive = async (): ReturnType<Fleet["api"]> =>
      small.api("POST", `${path}/go-live`, { after: [{ channel: "board:1", offset: 58 }], others: "ledger" });
    expect(await goLive()).toMatchObject({ status: 409, body: { code: "history_trimmed" } });
    const byCursor = await small.api("POST", `${path}/go-live`, { after: cursor });
    expect(byCursor, "a cursor before the gap").toMatchObject({ status: 409, body: { code: "history_trimmed" } });
    const { text } = await small.api("GET", `${path}/ledger`);
    const { gap } = JSON.parse(text.slice(0, text.indexOf("\n"))) as { gap: { to: number } };
    await small.api("POST", `${path}/seek`, { to: { time: gap.to + 1 } });
    expect((await goLive()).body["state"]).toBe("live");
    await eventually(() => endpoint.requests.length >= 2);
    const sent = endpoint.requests.map(({ body }) => (JSON.parse(body) as { data: { n: number } }).data.n);
    expect(sent).toEqual([58, 59]);
  } finally {
    await small.stop();
    await endpoint.stop();
  }
});

test("CUT-3: a page of a ledger never ends with a gap, so that the next one passes over no change", async () => {
  const small = await startFleet({ rules, gateways: 0, environment: { CHANGES_MAX_BYTES: "20000" } });
  try {
    const created = await small.api("POST", "/v1/endpoints", {
      ...{ url: "https://customer.example", channels: ["board:*"], mode: "shadow" },
    });
    const ledger = `/v1/endpoints/${String(created.body["id"])}/ledger`;
    const data = "x".repeat(1_000);
    const items = Array.from({ length: 60 }, () => ({ channel: "board:1", event: "kept", data }));
    expect((await small.api("POST", "/v1/publish/batch", items)).status).toBe(200);
    const { text } = await small.api("GET", ledger);
    const lines = text.split("\n");
    expect(lines[0]).toContain("gap");
    const page = (await small.api("GET", `${ledger}?limit=1`)).text.split("\n");
    expect(page.slice(0, 2)).toEqual(lines.slice(0, 2));
    const { next } = JSON.parse(page[2] ?? "{}") as { next: string };
    expect((await small.api("GET", `${ledger}?after=${next}`)).text.split("\n")).toEqual(lines.slice(2));
    expect((await small.api("GET", `${ledger}?after=256:1-1`)).status).toBe(400);
  } finally {
    await small.stop();
  }
});

test("CUT-8: go-live refuses a reference that leaves it open what the other system has sent", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-reference-"));
  const file = join(folder, "sent.ndjson");
  const id = await create({ channels: ["board:e0"], mode: "shadow" });
  await publish("board:e", 1);
  const goLive = async (lines: readonly object[], given: { mayBeEmpty?: boolean } = {}): Promise<{ state: string }> => {
    await writeFile(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const pointers = { id: undefined, channel: undefined, event: undefined, data: undefined };
    return goLiveAfterReference(new EndpointApi(fleet.apiUrl, tokens.service), id, {
      ...{ file, path: undefined, pointers, mayBeEmpty: false, mayBeMissing: false, ...given },
    });
  };
  try {
    await expect(goLive([{ channel: "board:e0", data: 0 }])).rejects.toThrow("lines without an id");
    await expect(goLive([{ id: "of-nothing" }])).rejects.toThrow("has no change of the ledger");
    const { text } = await fleet.api("GET", `/v1/endpoints/${id}/ledger`);
    const { changeId } = JSON.parse(text.slice(0, text.indexOf("\n"))) as { changeId: string };
    await expect(goLive([{ id: changeId }, { id: "later" }])).rejects.toThrow(":2: the ledger lacks this change");
    expect(await goLive([{ id: "of-nothing" }], { mayBeEmpty: true })).toMatchObject({ state: "live" });
  } finally {
    await rm(folder, { recursive: true, force: true });
    await fleet.api("DELETE", `/v1/endpoints/${id}`);
  }
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
