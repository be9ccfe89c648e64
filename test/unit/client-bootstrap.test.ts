/** A client that asks a bootstrap endpoint for the gateway's address. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { type ClientOptions, connect } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let endpoint: Server;
let bootstrap: string;
let asked: IncomingMessage[];
/** Used once each, in order; after them the endpoint answers with the gateway's address. */
let answers: { status: number; body: unknown; headers?: Record<string, string> }[];
const { open, closeAll } = clientsOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  asked = [];
  answers = [];
  endpoint = createServer((request, response) => {
    asked.push(request);
    const { status, body, headers } = answers.shift() ?? { status: 200, body: answer() };
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  }).listen(0, "127.0.0.1");
  await once(endpoint, "listening");
  bootstrap = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/v1/bootstrap`;
});
afterEach(async () => {
  closeAll();
  endpoint.closeAllConnections();
  endpoint.close();
  await gateway.stop();
});

const answer = (url = gateway.url): object => ({
  url,
  reconnect: { minDelayMs: 0, windowMs: 20_000 },
  group: "canary",
  config: { theme: "new" },
});
const problem = (status: number, code: string, more: object): { status: number; body: unknown } => ({
  status,
  body: { type: "about:blank", title: code, status, detail: "no", code, ...more },
});
const asks = (more: Partial<ClientOptions> = {}): Partial<ClientOptions> => ({ bootstrap, ...more });

describe("client with a bootstrap endpoint", () => {
  test("SDK-9: the client connects to the address it got and exposes group and configuration", async () => {
    const client = open(asks());
    expect(client.bootstrap).toBeNull();
    await reached(client, "connected");
    expect(client.bootstrap).toEqual(answer());
    expect(asked.map(({ method, headers }) => [method, headers.authorization])).toEqual([["GET", "Bearer token"]]);
  });

  test("SDK-9: the client asks the endpoint before each connect, but not for a move", async () => {
    gateway.welcome = { resumeToken: "resume" };
    const client = open(asks());
    await reached(client, "connected");
    gateway.socket.emit("sync:drain", { reconnectInMs: 0, deadlineInMs: 60_000 });
    await eventually(() => gateway.sockets.length === 2);
    await eventually(() => gateway.sockets[0]?.disconnected === true);
    expect(asked).toHaveLength(1);
    gateway.cut();
    await eventually(() => gateway.sockets.length === 3);
    expect(asked).toHaveLength(2);
  });

  test.each([
    [429, "rate_limited"],
    [503, "upstream_unavailable"],
  ])("SDK-9: after a refusal with %i the client asks again after retryAfterMs", async (status, code) => {
    answers.push(problem(status, code, { retryable: true, retryAfterMs: 150 }));
    const client = open(asks());
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 150, reason: { code, message: "no" } });
    await reached(client, "connected");
  });

  test("SDK-9: after a refused token the client asks the application once for another", async () => {
    answers.push(problem(401, "unauthenticated", { retryable: false }));
    expect((await reached(open(asks({ token: "token" })), "closed")).reason.code).toBe("unauthenticated");
    gateway.welcome = { resumeToken: "resume-1" };
    let given = 0;
    const client = open(asks({ token: () => `token-${++given}` }));
    await reached(client, "connected");
    answers.push(problem(401, "unauthenticated", { retryable: false }));
    gateway.cut();
    await eventually(() => gateway.handshakes.length === 2);
    expect(asked.slice(1).map(({ headers }) => headers.authorization)).toEqual([
      "Bearer token-1",
      "Bearer token-1",
      "Bearer token-2",
    ]);
  });

  test("a final refusal closes the client", async () => {
    answers.push(problem(400, "invalid_request", { retryable: false }));
    const { reason } = await reached(open(asks()), "closed");
    expect(reason).toMatchObject({ code: "invalid_request", message: "no", retryable: false });
  });

  test.each([
    ["no JSON", 200, "<html>"],
    ["no address", 200, { group: "stable" }],
    ["an empty address", 200, { url: "", reconnect: { minDelayMs: 0, windowMs: 1_000 } }],
    ["half of a reconnect window", 200, { url: "http://127.0.0.1:1", reconnect: { windowMs: 1_000 } }],
    ["another server's error", 502, { message: "bad gateway" }],
  ])("SDK-9: an unavailable endpoint is retried with backoff: %s", async (_, status, body) => {
    answers.push({ status, body });
    const client = open(asks({ random: () => 0.1 }));
    expect(await reached(client, "waiting")).toMatchObject({
      retryInMs: 100,
      reason: { code: "bootstrap_unavailable", retryable: true },
    });
    await reached(client, "connected");
  });

  test.each([
    ["0.5", 1_000],
    ["999999", 3_600_000],
    ["-1", 100],
    ["Sun, 06 Nov 1994 08:49:37 GMT", 100],
  ])("WAIT-3: after a balancer's 503 with Retry-After %s the client retries in %d ms", async (header, retryInMs) => {
    answers.push({ status: 503, body: "<html>", headers: { "retry-after": header } });
    const { reason, ...state } = await reached(open(asks({ random: () => 0.1 })), "waiting");
    expect([state.retryInMs, reason.code]).toEqual([retryInMs, "bootstrap_unavailable"]);
  });

  test.each([-5, "5", null, Number.MAX_VALUE])(
    "WAIT-3: retryAfterMs %j counts as none, or as one hour",
    async (retryAfterMs) => {
      answers.push(problem(429, "rate_limited", { retryable: true, retryAfterMs }));
      const { retryInMs } = await reached(open(asks({ random: () => 0.1 })), "waiting");
      expect(retryInMs).toBe(retryAfterMs === Number.MAX_VALUE ? 3_600_000 : 100);
    },
  );

  test("SDK-9: with an unavailable endpoint the client uses the last address", async () => {
    const client = open(asks());
    await reached(client, "connected");
    answers.push({ status: 502, body: "" });
    gateway.cut();
    await eventually(() => gateway.sockets.length === 2);
    expect(asked).toHaveLength(2);
  });

  test("SDK-9: the endpoint's reconnect window applies until the welcome", async () => {
    answers.push({ status: 200, body: answer("http://127.0.0.1:1") });
    const client = open(asks({ random: () => 0.5 }));
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 10_000, reason: { code: "connection_lost" } });
  });

  test("a client closed during the bootstrap request never connects", async () => {
    endpoint.removeAllListeners("request");
    const arrived = once(endpoint, "request");
    const client = open(asks());
    await arrived;
    client.close();
    expect(client.state.status).toBe("closed");
    expect(gateway.handshakes).toEqual([]);
  });

  test("SDK-1: a client that is closed in the turn of its connect asks no endpoint", async () => {
    const fetched = vi.spyOn(globalThis, "fetch");
    onTestFinished(() => fetched.mockRestore());
    open(asks()).close();
    await setImmediate();
    expect(fetched).not.toHaveBeenCalled();
  });

  test.each([
    ["neither", {}],
    ["both", { url: "http://127.0.0.1", bootstrap: "http://127.0.0.1/v1/bootstrap" }],
  ])("exactly one of url and bootstrap is required: %s", (_, address) => {
    expect(() => connect({ ...address, token: "token" })).toThrow(expect.objectContaining({ code: "invalid_request" }));
  });
});
