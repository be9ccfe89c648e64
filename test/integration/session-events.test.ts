/** Session events over two gateways and a real Redis: what a service hears of its users' sessions. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Webhook } from "standardwebhooks";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { MovingClient } from "../support/moving-client.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let redis: RedisServer;
let service: HttpService;
let fleet: Fleet;

beforeAll(async () => {
  [redis, service] = await Promise.all([startRedis(), startService()]);
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    gatewaySettings: [{ GATEWAY_DRAIN_SECONDS: "5" }],
    rules: rulesOf({ connected: "documents", disconnected: "documents" }),
  });
});
beforeEach(() => {
  service.answer = (_request, response) => answerJson(response, {});
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await Promise.all([redis.stop(), service.stop()]);
});

function rulesOf(hooks: object): object {
  return { services: { documents: { url: service.url, secret: serviceSecret } }, hooks };
}

async function connect(gateway: number, claims: Record<string, unknown> = {}, auth = {}): Promise<StockClient> {
  return connectClient(fleet.urls[gateway] ?? "", claims, auth);
}

function requestsOf({ welcome }: StockClient): ServiceRequest[] {
  return service.requests.filter(({ headers }) => headers["ce-session"] === welcome.sessionId);
}

/** Kinds of the events that the service got about the session, in order. */
function heardOf(client: StockClient): string[] {
  return requestsOf(client).map(({ path }) => path.slice("/tidegate/".length));
}

function bodyOf(request: ServiceRequest | undefined): Record<string, unknown> {
  return JSON.parse(request?.body ?? "null") as Record<string, unknown>;
}

describe("session events", () => {
  test("EVT-7: a session that begins and ends yields two signed events with its identity", async () => {
    const before = Date.now();
    const client = await connect(0, { sub: "grace", tenant: "acme", plan: "gold" });
    await eventually(() => heardOf(client).length === 1);
    client.socket.disconnect();
    await eventually(() => heardOf(client).length === 2);
    expect(heardOf(client)).toEqual(["connected", "disconnected"]);
    const [connected, disconnected] = requestsOf(client);
    const { sessionId } = client.welcome;
    const claims = expect.objectContaining({ sub: "grace", tenant: "acme", plan: "gold" }) as object;
    const common = { sessionId, user: "grace", tenant: "acme", claims, node: "node-1" };
    expect(bodyOf(connected)).toEqual({ ...common, at: expect.any(Number) as number });
    expect(bodyOf(disconnected)).toEqual({ ...common, at: expect.any(Number) as number, reason: "client" });
    expect(bodyOf(connected)["at"]).toBeGreaterThanOrEqual(before - 1_000);
    expect(bodyOf(disconnected)["at"]).toBeGreaterThanOrEqual(Number(bodyOf(connected)["at"]));
    expect(disconnected?.headers).toMatchObject({
      "ce-id": `disconnected-${sessionId}`,
      "ce-type": "tidegate.disconnected",
      "ce-source": "/tidegate/sessions",
      "ce-subject": "grace",
      "ce-tenant": "acme",
      "ce-partitionkey": sessionId,
    });
    const key = serviceSecret.slice("whsec_".length);
    new Webhook(key).verify(disconnected?.body ?? "", disconnected?.headers as Record<string, string>);
  });

  test("EVT-3: a resume within the grace time, on another node, yields neither event", async () => {
    const first = await connect(0);
    await eventually(() => heardOf(first).length === 1);
    first.socket.io.engine.close();
    await first.disconnected;
    const again = await connect(1, {}, { token: undefined, resume: first.welcome.resumeToken });
    expect(again.welcome).toMatchObject({ resumed: true, sessionId: first.welcome.sessionId });
    again.socket.disconnect();
    await eventually(() => heardOf(first).length >= 2);
    expect(heardOf(first)).toEqual(["connected", "disconnected"]);
    // The one after the resume.
    expect(bodyOf(requestsOf(first)[1])).toMatchObject({ node: "node-2", reason: "client" });
  });

  test("EVT-3: a session that the API ends is over at once, and its client begins another", async () => {
    const client = await connect(1, { sub: "expelled" });
    await fleet.api("POST", "/v1/users/expelled/disconnect", { reason: "no" });
    await eventually(() => heardOf(client).length === 2);
    expect(bodyOf(requestsOf(client)[1])).toMatchObject({ reason: "disconnected" });
    const next = await connect(1, { sub: "expelled" }, { resume: client.welcome.resumeToken });
    expect(next.welcome.sessionId).not.toBe(client.welcome.sessionId);
    await eventually(() => heardOf(next).length === 1);
  });

  test("EVT-5: a service that fails gets each event until it answers, in order, under one id", async () => {
    const answers = [503, 500, 429];
    service.answer = ({ headers }, response) => {
      const isOwn = headers["ce-subject"] === "patient";
      answerJson(response, {}, isOwn ? (answers.shift() ?? 200) : 200);
    };
    const client = await connect(0, { sub: "patient" });
    client.socket.disconnect();
    await eventually(() => heardOf(client).includes("disconnected"));
    expect(heardOf(client)).toEqual([...Array<string>(4).fill("connected"), "disconnected"]);
    const ids = requestsOf(client).map(({ headers }) => headers["ce-id"]);
    expect(new Set(ids).size).toBe(2);
    const attempts = requestsOf(client).map(({ headers }) => headers["tidegate-attempt"]);
    expect(attempts).toEqual(["1", "2", "3", "4", "1"]);
  });

  test("EVT-8: without the hooks nothing is kept of a session", async () => {
    const alone = await startRedis();
    const plain = await startFleet({ target: { kind: "standalone", url: alone.url }, rules: rulesOf({}) });
    const client = await connectClient(plain.urls[0] ?? "");
    const store = new Redis(alone.url);
    expect(await store.keys("*:session-*")).toEqual([]);
    client.socket.disconnect();
    await eventually(async () => (await store.keys("*:ended:*")).length === 1);
    expect(await store.keys("*:session-*")).toEqual([]);
    store.disconnect();
    await plain.stop();
    await alone.stop();
  });

  test("EVT-3: sessions that a draining node hands over yield no event", async () => {
    const client = await MovingClient.connect({
      url: fleet.urls[0] ?? "",
      elsewhere: () => fleet.urls[1] ?? "",
      channel: "board:1",
      claims: { sub: "mover" },
    });
    const first = client.connection;
    const left = await connect(0, { sub: "stock" });
    await fleet.api("POST", "/v1/nodes/node-1/drain");
    await client.moved;
    await left.disconnected;
    const again = await connect(1, {}, { token: undefined, resume: left.welcome.resumeToken });
    expect(again.welcome).toMatchObject({ resumed: true });
    client.connection.socket.disconnect();
    again.socket.disconnect();
    for (const session of [first, left]) {
      await eventually(() => heardOf(session).length >= 2);
      expect(heardOf(session)).toEqual(["connected", "disconnected"]);
      expect(bodyOf(requestsOf(session)[1])).toMatchObject({ node: "node-2", reason: "client" });
    }
  });
});
