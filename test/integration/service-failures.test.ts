/** Requests to services that fail: the log, the metrics, the API and the client's error lead to the cause. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { linesWith } from "../support/log-lines.ts";
import { freePort } from "../support/processes.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

let fleet: Fleet;
let service: HttpService;

const failed = "a request to a service failed";

function rulesWith(services: Record<string, object>): object {
  return {
    services,
    routes: Object.keys(services).flatMap((name) => [
      { event: `ask.${name}`, service: name, path: "/ask", mode: "call" },
      { event: `tell.${name}`, service: name, path: "/tell", mode: "enqueue", retry: { attempts: 1 } },
    ]),
    hooks: { connect: "gate", subscribe: "gate" },
  };
}

beforeAll(async () => {
  service = await startService();
  fleet = await startFleet({
    rules: rulesWith({
      board: { url: service.url, secret: serviceSecret },
      hasty: { url: service.url, secret: serviceSecret, timeoutMs: 1_000 },
      gone: { url: `http://127.0.0.1:${await freePort()}`, secret: serviceSecret },
      gate: { url: service.url, secret: serviceSecret },
    }),
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

/** Answers the hooks, and everything else as given. */
function answerCalls(answer: HttpService["answer"]): void {
  service.answer = (request, response) => {
    if (request.path.startsWith("/tidegate/")) answerJson(response, {});
    else answer(request, response);
  };
}

async function seriesOf(metric: string): Promise<string[]> {
  const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
  return text.split("\n").filter((line) => line.startsWith(`${metric}{`));
}

test.for([
  ["board", "upstream_failed", 500],
  ["board", "upstream_rejected", 404],
  ["hasty", "upstream_timeout", undefined],
  ["gone", "upstream_unavailable", undefined],
] as const)("FAIL-1: a call to %s that fails with %s is a line of the log", async ([name, code, status]) => {
  answerCalls((_request, response) => {
    if (status !== undefined) answerJson(response, {}, status);
  });
  const client = await connectClient(fleet.urls[0] ?? "");
  const { error } = await client.request(`ask.${name}`, { hidden: "data" });
  expect(error).toMatchObject({ code, requestId: expect.any(String) as string });
  const line = linesWith(fleet.log(), failed).find(({ requestId }) => requestId === error?.requestId);
  expect(line).toMatchObject({
    service: name,
    kind: "call",
    event: `ask.${name}`,
    trace: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
    code,
    cause: expect.any(String) as string,
    ms: expect.any(Number) as number,
    ...(status !== undefined && { status }),
  });
  expect(JSON.stringify(line)).not.toContain("hidden");
});

test("FAIL-1: a queued event that fails is a line of the log, a service's decision is none", async () => {
  answerCalls((_request, response) => answerJson(response, {}, 500));
  const client = await connectClient(fleet.urls[0] ?? "");
  const { id } = await client.request("tell.board", {});
  await eventually(() => linesWith(fleet.log(), failed).some(({ requestId }) => requestId === id));
  answerCalls((_request, response) => answerJson(response, { code: "taken", message: "choose another" }, 409));
  const { error } = await client.request("ask.board", {});
  expect(error).toMatchObject({ code: "taken", requestId: expect.any(String) as string });
  expect(fleet.log()).not.toContain(String(error?.requestId));
});

test("FAIL-1: a burst of failures is a few lines, and a later line counts those left out", async () => {
  answerCalls((_request, response) => answerJson(response, {}, 418));
  const client = await connectClient(fleet.urls[0] ?? "");
  const before = linesWith(fleet.log(), failed).length;
  await Promise.all(Array.from({ length: 60 }, async () => client.request("ask.board", {})));
  expect(linesWith(fleet.log(), failed).length - before).toBeLessThan(30);
  await eventually(async () => {
    await client.request("ask.board", {});
    return linesWith(fleet.log(), failed).some(({ leftOut }) => Number(leftOut) > 0);
  });
});

test("FAIL-2: a call that reaches no private API is a line of the gateway's log", async () => {
  const lone = await startFleet({
    rules: rulesWith({
      board: { url: service.url, secret: serviceSecret },
      gate: { url: service.url, secret: serviceSecret },
    }),
  });
  try {
    answerCalls((_request, response) => answerJson(response, {}));
    const client = await connectClient(lone.urls[0] ?? "");
    await lone.privateApi.stop();
    const { error } = await client.request("ask.board", {}, { timeoutMs: 200 });
    expect(error).toMatchObject({ code: "upstream_unavailable", requestId: expect.any(String) as string });
    const [line] = linesWith(lone.log(), "a request did not reach its service");
    expect(line).toMatchObject({
      service: "board",
      event: "ask.board",
      requestId: error?.requestId,
      code: "upstream_unavailable",
      cause: "no private API can be reached",
    });
  } finally {
    await lone.stop();
  }
});

test("FAIL-3: refusals for which a hook gave no decision lead to the line of its request", async () => {
  answerCalls(() => undefined);
  const client = await connectClient(fleet.urls[0] ?? "");
  service.answer = (_request, response) => answerJson(response, {}, 500);
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
  const { error } = await client.request("sync:subscribe", { channel: "secret:1" });
  for (const [{ requestId }, event] of [
    [refusal, "tidegate.connect"],
    [error ?? {}, "tidegate.subscribe"],
  ] as const) {
    const line = linesWith(fleet.log(), failed, 0).find((each) => each["requestId"] === requestId);
    expect(line).toMatchObject({ service: "gate", event, cause: "gate answered 500" });
  }
});

test("FAIL-4: requests are counted by service and outcome, for services of the rules only", async () => {
  answerCalls((_request, response) => answerJson(response, {}));
  const client = await connectClient(fleet.urls[0] ?? "");
  expect((await client.request("ask.board", {})).ok).toBe(true);
  const counted = async (): Promise<string> => (await seriesOf("tidegate_upstream_answers_total")).join("\n");
  expect(await counted()).toMatch(/\{service="board",outcome="2xx"\} \d/);
  const gate = { url: service.url, secret: serviceSecret };
  await fleet.api("PUT", "/v1/rules", rulesWith({ gate }));
  await eventually(async () => {
    await client.request("ask.gate", {});
    return !(await counted()).includes('service="board"');
  });
  expect(await counted()).toContain('service="gate"');
});

test("FAIL-5: GET /v1/services shows circuit, last success and last error of each service", async () => {
  const own = await startFleet({
    rules: rulesWith({
      board: { url: service.url, secret: serviceSecret },
      gate: { url: service.url, secret: serviceSecret },
    }),
  });
  try {
    answerCalls((_request, response) => answerJson(response, {}, 500));
    const client = await connectClient(own.urls[0] ?? "");
    let requestId: string | undefined;
    for (let n = 0; n < 10; n++) requestId = (await client.request("ask.board", {})).error?.requestId;
    // What the open circuit refuses does not replace the failure that opened it.
    expect((await client.request("ask.board", {})).error?.code).toBe("upstream_unavailable");
    const { services } = (await own.api("GET", "/v1/services", undefined, { token: "reader-token-of-the-test" })).body;
    expect(services).toEqual([
      {
        service: "board",
        circuit: "open",
        retryAfterMs: expect.any(Number) as number,
        lastError: {
          at: expect.any(Number) as number,
          code: "upstream_failed",
          status: 500,
          cause: "board answered 500",
          event: "ask.board",
          requestId,
          ms: expect.any(Number) as number,
        },
      },
      { service: "gate", circuit: "closed", lastSuccessAt: expect.any(Number) as number },
    ]);
    const ready = await fetch(`${own.apiUrl}/readyz`);
    expect([ready.status, await ready.json()]).toMatchObject([200, { checks: { services: "degraded" } }]);
  } finally {
    await own.stop();
  }
});
