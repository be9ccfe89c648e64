/** A service that dies, hangs and comes back: what calls, hooks and queued events get meanwhile. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { freePort } from "../support/processes.ts";
import { type Answer, closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

/** Each circuit test begins with a fleet of its own: circuits remember. */
let fleet: Fleet;
let service: HttpService;
let other: HttpService;

beforeEach(async () => {
  // Nobody else takes the port of a service that is down.
  [service, other] = await Promise.all([startService({ port: await freePort() }), startService()]);
  fleet = await startFleet({
    rules: {
      services: {
        documents: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 },
        hasty: { url: service.url, secret: serviceSecret, timeoutMs: 2_000 },
        other: { url: other.url, secret: serviceSecret },
      },
      routes: [
        { event: "ask", service: "documents", path: "/ask", mode: "call" },
        { event: "ask.hasty", service: "hasty", path: "/ask", mode: "call" },
        { event: "ask.other", service: "other", path: "/ask", mode: "call" },
        { event: "tell", service: "documents", path: "/tell", mode: "enqueue", retry: { minMs: 1, maxMs: 20 } },
        { event: "tell.keyed", service: "documents", path: "/tell", mode: "enqueue", key: "/key" },
      ],
      hooks: { connect: "documents" },
    },
  });
});
afterEach(async () => {
  vi.restoreAllMocks();
  closeClients();
  await fleet.stop();
  await Promise.all([service.stop(), other.stop()]);
});

type Respond = (request: ServiceRequest, response: Parameters<HttpService["answer"]>[1]) => void;

/** Answers hooks, and everything else as given. */
function answerCalls(answer: Respond): void {
  service.answer = (request, response) => {
    if (request.path.startsWith("/tidegate/")) answerJson(response, {});
    else answer(request, response);
  };
}

const serverError: Respond = (_request, response) => answerJson(response, {}, 500);

function askedOf(at: HttpService): number {
  return at.requests.filter(({ path }) => path === "/ask").length;
}

async function newClient(sub = "ada"): Promise<StockClient> {
  return connectClient(fleet.urls[0] ?? "", { sub });
}

async function open(client: StockClient, event = "ask"): Promise<void> {
  for (let n = 0; n < 10; n++) expect((await client.request(event, {})).ok).toBe(false);
}

/** Asks until the circuit refuses: on a slow machine the next probe may be due already. */
async function refusedByCircuit(client: StockClient): Promise<Answer> {
  for (;;) {
    const refused = await client.request("ask", {});
    if (refused.error?.message.includes("nothing was sent") === true) return refused;
    expect(refused.ok).toBe(false);
  }
}

async function metric(name: string): Promise<string | undefined> {
  const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${name} `));
  return line?.slice(name.length + 1);
}

test("CALL-20: while a service is down its calls fail at once, and work again soon after it is back", async () => {
  const client = await newClient();
  const port = Number(new URL(service.url).port);
  await service.stop();
  await open(client);
  expect(await refusedByCircuit(client)).toMatchObject({
    ok: false,
    error: { code: "upstream_unavailable", retryable: true, retryAfterMs: expect.any(Number) as number },
  });
  expect(await metric('tidegate_circuit_open{service="documents"}')).toBe("1");
  expect(await metric('tidegate_upstream_answers_total{service="documents",outcome="circuit_open"}')).toBe("1");
  expect(fleet.log()).toContain("its circuit is open");
  expect((await client.request("ask.other", {})).ok).toBe(true);

  service = await startService({ port });
  await eventually(async () => (await client.request("ask", {})).ok);
  expect(fleet.log()).toContain("its circuit is closed");
  expect(await metric('tidegate_circuit_open{service="documents"}')).toBe("0");
});

test("CALL-20: one call at a time probes the service, the others fail at once", async () => {
  const client = await newClient();
  answerCalls(serverError);
  await open(client, "ask.hasty");
  const before = askedOf(service);
  // Hangs: the probe lasts until its time is up.
  answerCalls(() => undefined);
  await eventually(async () => {
    const acks = await Promise.all([1, 2, 3].map(async () => client.request("ask.hasty", {})));
    return acks.some(({ error }) => error?.code === "upstream_timeout");
  });
  expect(askedOf(service)).toBe(before + 1);
});

test("CALL-21: refusals, a pause, and answers that are no JSON do not open a circuit", async () => {
  const answers: readonly Respond[] = [
    (_request, response) => answerJson(response, {}, 404),
    (_request, response) => answerJson(response, {}, 429),
    (_request, response) => response.writeHead(503, { "retry-after": "1" }).end(),
    (_request, response) => response.end("no JSON"),
  ];
  const client = await newClient();
  for (const answer of answers) {
    answerCalls(answer);
    for (let n = 0; n < 12; n++) await client.request("ask", {});
    expect(await metric('tidegate_circuit_open{service="documents"}')).toBe("0");
  }
});

test("CALL-21: connections that the service cuts open its circuit", async () => {
  const client = await newClient();
  answerCalls((_request, response) => response.destroy());
  for (let n = 0; n < 10; n++) expect((await client.request("ask", {})).error?.code).toBe("upstream_timeout");
  expect(await metric('tidegate_circuit_open{service="documents"}')).toBe("1");
});

test("CALL-21: a service that hangs opens its circuit, but not by calls that wait too briefly for it", async () => {
  const client = await newClient();
  answerCalls(() => undefined);
  const hurried = Array.from({ length: 20 }, async () => client.request("ask.hasty", {}, { timeoutMs: 1_000 }));
  for (const { error } of await Promise.all(hurried)) expect(error?.code).toBe("upstream_timeout");
  expect(await metric('tidegate_circuit_open{service="hasty"}')).toBe("0");
  await Promise.all(Array.from({ length: 10 }, async () => client.request("ask.hasty", {})));
  expect(await metric('tidegate_circuit_open{service="hasty"}')).toBe("1");
});

test("CALL-22: one user's failing calls refuse nothing to others", async () => {
  const [ada, grace, mallory] = [await newClient("ada"), await newClient("grace"), await newClient("mallory")];
  answerCalls((request, response) => answerJson(response, {}, request.headers["ce-subject"] === "mallory" ? 500 : 200));
  for (let n = 0; n < 20; n++) {
    expect((await ada.request("ask", {})).ok).toBe(true);
    expect((await grace.request("ask", {})).ok).toBe(true);
    // More failures than answers, of one user.
    const failing = [1, 2, 3, 4].map(async () => mallory.request("ask", {}));
    for (const { error } of await Promise.all(failing)) expect(error?.code).toBe("upstream_failed");
  }
});

test("CALL-22: calls of one user that fail before anybody else calls refuse nothing to the others", async () => {
  const mallory = await newClient("mallory");
  answerCalls((request, response) => answerJson(response, {}, request.headers["ce-subject"] === "mallory" ? 500 : 200));
  await open(mallory);
  await refusedByCircuit(mallory);
  const ada = await newClient("ada");
  for (let n = 0; n < 20; n++) {
    expect((await ada.request("ask", {})).ok).toBe(true);
    await mallory.request("ask", {});
  }
  expect(await metric('tidegate_circuit_open{service="documents"}')).toBe("1");
});

test("CALL-22: queued events of one user that always fail keep back no call and no event of another", async () => {
  const [ada, mallory] = [await newClient("ada"), await newClient("mallory")];
  let delivered = 0;
  answerCalls((request, response) => {
    const isBad = request.headers["ce-subject"] === "mallory";
    if (!isBad && request.path === "/tell") delivered++;
    answerJson(response, {}, isBad ? 500 : 200);
  });
  for (let n = 0; n < 12; n++) await mallory.request("tell.keyed", { key: `bad${n}` });
  await eventually(async () => (await metric('tidegate_circuit_open{service="documents"}')) === "1");
  for (let n = 0; n < 5; n++) expect(await ada.request("tell.keyed", { key: n })).toMatchObject({ queued: true });
  await eventually(() => delivered === 5);
  expect((await ada.request("ask", {})).ok).toBe(true);
});

test("HOOK-6: an open circuit keeps no client from connecting, and a hook's answer does not close it", async () => {
  const client = await newClient();
  answerCalls(serverError);
  await open(client);
  await newClient("grace");
  await refusedByCircuit(client);
  expect(await metric('tidegate_circuit_open{service="documents"}')).toBe("1");
});

test("DISP-5: calls and queued events share a circuit: events wait, and lose no attempt", async () => {
  const client = await newClient();
  answerCalls(serverError);
  // No probe is due until the clock goes on.
  const now = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(now);
  await open(client);
  expect(await client.request("tell", { n: 1 })).toMatchObject({ ok: true, queued: true });
  let taken: string | string[] | undefined;
  answerCalls((request, response) => {
    if (request.path === "/tell") taken = request.headers["tidegate-attempt"];
    answerJson(response, {});
  });
  clock.mockRestore();
  await eventually(() => taken !== undefined);
  expect(taken).toBe("1");
});
