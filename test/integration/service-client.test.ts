/** Requests to a real service without the programs. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { ServiceCircuits } from "../../private-api/upstream/service-circuits.ts";
import { AnswerBudget, type AnswerPart } from "../../shared/services/answer-budget.ts";
import { type ServiceAnswer, ServiceClient } from "../../shared/services/service-client.ts";
import { readServiceSecret } from "../../shared/rules/service-secret.ts";
import { serviceSecret } from "../support/fleet.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { freePort } from "../support/processes.ts";

let service: HttpService;
let client: ServiceClient;
let budget: AnswerBudget;

beforeEach(async () => {
  // Tests stop it, and nobody else may listen there then.
  service = await startService({ port: await freePort() });
  client = new ServiceClient();
  budget = new AnswerBudget();
});
afterEach(async () => {
  await client.stop();
  await service.stop();
});

interface Sent {
  kind?: "call" | "queued";
  isConnected?: boolean;
  timeoutMs?: number;
  maxInFlight?: number;
  headers?: Record<string, string>;
}

async function send(part: AnswerPart, sent: Sent = {}): Promise<ServiceAnswer> {
  const { kind = "call", isConnected = true, timeoutMs = 20_000, maxInFlight = 100, headers = {} } = sent;
  const secret = readServiceSecret(serviceSecret);
  if (!secret) throw new Error("the secret of the test is not valid");
  return client.send({
    kind,
    service: { name: "work", url: service.url, timeoutMs, maxInFlight, secrets: [], hooks: [] },
    secrets: [secret],
    path: "/",
    body: "{}",
    eventId: "an-id",
    eventType: "work",
    source: "/test",
    identity: { user: "ada", sessionId: "one", claims: {} },
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    timeoutMs,
    answer: { isConnected, part },
    headers,
  });
}

const large = JSON.stringify("x".repeat(1_000_000));

test("RELAY-8: of 100 large answers to one session two at a time are read, and all arrive", async () => {
  service.answer = (_request, response) => response.end(large);
  let most = 0;
  const answers = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const part = budget.part("stream", "session");
      const answer = await send(part);
      most = Math.max(most, budget.taken);
      part.release();
      return answer.kind === "answered" && answer.body.length;
    }),
  );
  expect(answers).toEqual(answers.map(() => large.length));
  expect([most, budget.taken]).toEqual([2, 0]);
});

test("RELAY-8: a large answer without room times out; a small one needs no room", async () => {
  const held = [budget.part("stream", "session"), budget.part("stream", "session")];
  for (const part of held) await part.grow("other", 1_000);
  service.answer = (_request, response) => response.end(large);
  expect(await send(budget.part("stream", "session"), { timeoutMs: 200 })).toMatchObject({
    kind: "unanswered",
  });
  const small = "x".repeat(64 * 1024);
  service.answer = (_request, response) => response.end(small);
  expect(await send(budget.part("stream", "session"))).toMatchObject({ body: Buffer.from(small) });
  expect(await send(budget.part("stream", "another"))).toMatchObject({ kind: "answered" });
});

test("CALL-10: an announced answer over 1 MiB is not read", async () => {
  service.answer = (_request, response) => {
    response.writeHead(200, { "content-length": "2000000" });
    response.flushHeaders();
  };
  expect(await send(budget.part("stream", "session"))).toEqual({ kind: "answer_too_large" });
});

test("CALL-10: of an answer over 1 MiB that is no 2xx only the body is lost", async () => {
  for (const headers of [{ "content-length": "2000000" }, {}]) {
    service.answer = (_request, response) => {
      response.writeHead(503, { ...headers, "retry-after": "7" }).end(Buffer.alloc(2_000_000));
    };
    const answer = await send(budget.part("stream", "session"));
    expect(answer).toEqual({ kind: "answered", status: 503, body: Buffer.alloc(0), retryAfterMs: 7_000 });
  }
});

test("RELAY-8: a request whose caller is gone is not sent", async () => {
  expect(await send(budget.part("stream", "session"), { isConnected: false })).toMatchObject({ kind: "unreachable" });
  expect(service.requests).toEqual([]);
});

test("QFAIL-2: a queued item whose lease ended while it waited for a place is not sent", async () => {
  expect(await send(budget.part("stream", "session"), { kind: "queued", isConnected: false })).toEqual({
    kind: "busy",
  });
  expect(service.requests).toEqual([]);
});

/** From the call on the process seems to have been frozen for longer than any request may take. */
function freeze(): { pause: () => void } {
  const running = performance.now.bind(performance);
  let pausedMs = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + pausedMs);
  onTestFinished(() => clock.mockRestore());
  return { pause: () => (pausedMs = 120_000) };
}

test("CALL-12: a call that was frozen while it waited for a place is not sent when a place becomes free", async () => {
  const { pause } = freeze();
  const held = Promise.withResolvers<void>();
  service.answer = (_request, response) => void held.promise.then(() => response.end("{}"));
  const first = send(budget.part("stream", "session"), { maxInFlight: 1 });
  await eventually(() => service.requests.length === 1);
  const second = send(budget.part("stream", "session"), { maxInFlight: 1 });
  pause();
  held.resolve();
  expect(await first).toMatchObject({ kind: "answered" });
  expect(await second).toEqual({ kind: "unreachable", reason: "no free place in time", fault: "own" });
  expect(service.requests).toHaveLength(1);
});

test("CALL-18: a call that was frozen while it waited for a connection is not sent once there is one", async () => {
  const { pause } = freeze();
  subscribe("undici:client:beforeConnect", pause);
  onTestFinished(() => void unsubscribe("undici:client:beforeConnect", pause));
  expect(await send(budget.part("stream", "session"))).toMatchObject({ kind: "unreachable", fault: "deadline" });
  expect(service.requests).toEqual([]);
});

test("CALL-21: a request that is not valid HTTP is not sent, and opens no circuit", async () => {
  const circuits = new ServiceCircuits();
  const owner = { name: "work", url: service.url };
  const headers = { "x-line-break": "a secret\r\nx-other: 1" };
  for (let n = 0; n < 20; n++) {
    const answer = await circuits.guard(owner, { user: "ada", hasTime: true }, async () =>
      send(budget.part("stream", "session"), { headers }),
    );
    const reason = "the request is invalid: invalid x-line-break header";
    expect(answer).toEqual({ kind: "unreachable", reason, fault: "own" });
  }
  expect(circuits.of(owner).isOpen).toBe(false);
  expect(service.requests).toEqual([]);
});

test.for<[headers: Record<string, string>, read: string]>([
  [{ "content-length": "6" }, "failed"],
  [{ "content-length": "0" }, ""],
  // Of a body without an announced length nothing is read.
  [{}, ""],
])("CALL-23: after a 5xx with %o the connection is not used again", async ([headers, read]) => {
  const used = new Set<Socket | null>();
  service.answer = (_request, response) => {
    const { socket } = response;
    // As a server that closes its connection a moment after the 5xx.
    if (used.has(socket)) return void socket?.destroy();
    used.add(socket);
    response.writeHead(500, headers).end(headers["content-length"] === "0" ? "" : "failed");
  };
  for (let n = 0; n < 3; n++) {
    const answer = await send(budget.part("stream", "session"));
    expect(answer).toMatchObject({ kind: "answered", status: 500, body: Buffer.from(read) });
  }
});

/** Counts attempts to connect that failed. */
function countRefusals(): () => number {
  let count = 0;
  const note = (): void => void count++;
  subscribe("undici:client:connectError", note);
  onTestFinished(() => void unsubscribe("undici:client:connectError", note));
  return () => count;
}

test("CALL-24: a call that a restarting service did not take is answered after the restart", async () => {
  const port = Number(new URL(service.url).port);
  await service.stop();
  const refusals = countRefusals();
  // The hold does not end by the clock.
  const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now());
  onTestFinished(() => clock.mockRestore());
  const sending = [1, 2, 3].map(async () => send(budget.part("stream", "session")));
  await eventually(() => refusals() >= 6);
  service = await startService({ port });
  for (const answer of await Promise.all(sending)) expect(answer).toMatchObject({ kind: "answered", status: 200 });
  expect(service.requests).toHaveLength(3);
});

test("CALL-24: calls to a service that stays away fail at once after the hold", async () => {
  await service.stop();
  const refusals = countRefusals();
  const from = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(from);
  onTestFinished(() => clock.mockRestore());
  const first = send(budget.part("stream", "session"));
  await eventually(() => refusals() >= 2);
  clock.mockReturnValue(from + 2_000);
  expect(await first).toMatchObject({ kind: "unreachable", reason: "ECONNREFUSED" });
  const before = refusals();
  expect(await send(budget.part("stream", "session"))).toMatchObject({ kind: "unreachable" });
  expect(refusals() - before).toBe(1);
});
