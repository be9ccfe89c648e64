/** The answers of bootstrap: where to connect, in which rollout group, with what configuration. */
import { request } from "node:http";
import { generateKeyPair, SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { NodeReport } from "../../shared/nodes/contract.ts";
import type { Bootstrap } from "../../shared/protocol/wire.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { eventually } from "../support/eventually.ts";
import { metricsOf } from "../support/gateway-metrics.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { quietLogger } from "../support/logger.ts";
import { nodeReport } from "../support/node-reports.ts";
import { freePort } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";

afterEach(closeClients);

interface Question {
  token?: string;
  query?: string;
  headers?: Record<string, string>;
  method?: string;
}

async function ask(url: string, { token, query = "", headers = {}, method = "GET" }: Question = {}) {
  const answer = await fetch(`${url}/v1/bootstrap${query}`, {
    method,
    headers: { ...headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
  });
  const text = await answer.text();
  const body = (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>;
  return { status: answer.status, headers: answer.headers, body };
}

async function bootstrap(url: string, question: Question = {}): Promise<Bootstrap> {
  const { status, body } = await ask(url, question);
  if (status !== 200) throw new Error(`refused: ${JSON.stringify(body)}`);
  return body as unknown as Bootstrap;
}

/** With a Host header, which `fetch` does not allow. */
async function askAs(url: string, headers: Record<string, string>): Promise<Record<string, unknown>> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const asking = request({ host: hostname, port, path: "/v1/bootstrap", headers }, (answer) => {
      answer.setEncoding("utf8").on("data", (text: string) => resolve(JSON.parse(text) as Record<string, unknown>));
    });
    asking.on("error", reject).end();
  });
}

/** From another local address: any of 127.0.0.0/8. */
async function askFrom(localAddress: string, url: string): Promise<{ status: number; retryAfterMs: number }> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const asking = request({ host: hostname, port, path: "/v1/bootstrap", localAddress }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (part: string) => (text += part));
      answer.once("end", () => {
        const { retryAfterMs = 0 } = JSON.parse(text) as { retryAfterMs?: number };
        resolve({ status: answer.statusCode ?? 0, retryAfterMs });
      });
    });
    asking.on("error", reject).end();
  });
}

/** The node addresses that a crowd of requests gets. */
async function addressesOf(url: string, crowd = 100): Promise<Set<string>> {
  const answers = await Promise.all(Array.from({ length: crowd }, () => bootstrap(url)));
  return new Set(answers.map((answer) => answer.url));
}

async function as(sub: string, minutesLeft = 60): Promise<{ token: string }> {
  return { token: await userToken({ sub, exp: Math.floor(Date.now() / 1000) + minutesLeft * 60 }) };
}

describe("a fleet of two nodes with addresses of their own", () => {
  const addresses = new Set(["https://one.example", "https://two.example"]);
  let redis: RedisServer;
  let stores: Stores;
  let registryAway = false;
  /** By node: those that take clients, as its last report was answered. */
  const known = new Map<string, string>();
  let fleet: Fleet;
  let url: string;
  beforeAll(async () => {
    redis = await startRedis();
    const target = { kind: "standalone", url: redis.url } as const;
    stores = createStores(target, quietLogger);
    await stores.start();
    fleet = await startFleet({
      target,
      gateways: 2,
      nodeRegistry: {
        ...{ start: async () => undefined, stop: async () => undefined },
        report: async (...given) => {
          if (registryAway) throw new TidegateError("broker_unavailable", "the registry is away");
          const answer = await stores.nodeRegistry.report(...given);
          const ready = answer.nodes.filter(({ state }) => state === "ready").map(({ node }) => node);
          known.set(given[0].node, ready.join());
          return answer;
        },
        leave: (instance) => stores.nodeRegistry.leave(instance),
        nodes: () => stores.nodeRegistry.nodes(),
        order: (node, order) => stores.nodeRegistry.order(node, order),
      },
      gatewaySettings: [
        { PUBLIC_URL: "https://one.example" },
        // Its drain ends with its last session.
        { PUBLIC_URL: "https://two.example", GATEWAY_DRAIN_SECONDS: "60" },
      ],
      environment: { GATEWAY_ALLOWED_ORIGINS: "https://app.example" },
    });
    url = fleet.urls[0] ?? "";
  });
  afterAll(async () => {
    await fleet.stop();
    await stores.stop();
  });

  async function putRollouts(document: object): Promise<void> {
    const { status, body, text } = await fleet.api("PUT", "/v1/rollouts", document);
    if (status !== 200) throw new Error(text);
    await eventually(async () =>
      (await metricsOf(fleet.gateways, "rollouts_version")).every((value) => value === body["version"]),
    );
  }

  test("BOOT-1: the answer has a node's address, the reconnect policy, group and configuration", async () => {
    const { status, headers, body } = await ask(url, await as("ada"));
    expect(status).toBe(200);
    expect(headers.get("cache-control")).toBe("no-store");
    const { welcome } = await connectClient(url);
    expect(body).toEqual({
      url: expect.stringMatching(/^https:\/\/(one|two)\.example$/) as string,
      reconnect: welcome.reconnect,
      group: "default",
      config: {},
    });
    await eventually(async () => (await addressesOf(url)).size === 2);
  });

  test("BOOT-7: pages of allowed origins may send a token, and read answers and refusals", async () => {
    const headers = { origin: "https://app.example" };
    const preflight = await ask(url, {
      method: "OPTIONS",
      headers: {
        ...headers,
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
      },
    });
    expect(preflight.status).toBe(204);
    expect(Object.fromEntries(preflight.headers)).toMatchObject({
      "access-control-allow-origin": "https://app.example",
      "access-control-allow-headers": "authorization",
      "access-control-allow-methods": "GET",
      vary: "origin",
    });
    for (const token of [undefined, "none"]) {
      const { headers: answered } = await ask(url, { headers, ...(token !== undefined && { token }) });
      expect(answered.get("access-control-allow-origin")).toBe("https://app.example");
      expect(answered.get("access-control-expose-headers")).toBe("retry-after");
    }
    const elsewhere = await ask(url, { headers: { origin: "https://elsewhere.example" } });
    expect(elsewhere.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("ROLL-1: new rollouts apply from the next bootstrap, on every node", async () => {
    await putRollouts({
      groups: [{ name: "canary", percent: 100, config: { theme: "new" } }],
      fallback: { name: "stable" },
    });
    for (const node of fleet.urls) {
      expect(await bootstrap(node, await as("ada"))).toMatchObject({ group: "canary", config: { theme: "new" } });
    }
    await putRollouts({ groups: [], fallback: { name: "stable", config: { theme: "old" } } });
    for (const node of fleet.urls) {
      expect(await bootstrap(node, await as("ada"))).toMatchObject({ group: "stable", config: { theme: "old" } });
    }
  });

  test("ROLL-2: a user has the same group on every node, and shares match the percentages", async () => {
    await putRollouts({
      groups: [
        { name: "canary", percent: 10 },
        { name: "half", percent: 50 },
      ],
      fallback: { name: "stable" },
    });
    const users = await Promise.all(Array.from({ length: 500 }, (_, i) => as(`person-${i}`)));
    const groups: string[][] = [];
    for (const node of fleet.urls) {
      groups.push((await Promise.all(users.map((user) => bootstrap(node, user)))).map(({ group }) => group));
    }
    expect(groups[1]).toEqual(groups[0]);
    const count = (name: string): number => (groups[0] ?? []).filter((group) => group === name).length;
    expect([count("canary"), count("half"), count("stable")]).toEqual([49, 246, 205]);
  });

  test("ROLL-2: without a token the client id decides on the group; without an id, the fallback", async () => {
    const groups = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => (await bootstrap(url, { query: `?client=device-${i}` })).group),
    );
    expect(new Set(groups)).toEqual(new Set(["canary", "half", "stable"]));
    expect((await bootstrap(url, { query: "?client=device-0" })).group).toBe(groups[0]);
    expect((await bootstrap(url)).group).toBe("stable");
    for (const query of ["?client=", `?client=${"x".repeat(257)}`, "?client=a&client=b"]) {
      const { status, body } = await ask(url, { query });
      expect([status, body["code"]]).toEqual([400, "invalid_request"]);
    }
  });

  test("ROLL-4: a user is in the group that lists them", async () => {
    await putRollouts({ groups: [{ name: "canary", percent: 0, users: ["ada"] }], fallback: { name: "stable" } });
    expect((await bootstrap(url, await as("ada"))).group).toBe("canary");
    expect((await bootstrap(url, await as("bob"))).group).toBe("stable");
    // A client id is not authenticated.
    expect((await bootstrap(url, { query: "?client=ada" })).group).toBe("stable");
  });

  test("BOOT-2: an invalid token is refused; an expired one is valid as long as a resume", async () => {
    const forged = await userToken({ sub: "ada" }, "another secret, also long enough for HS256");
    for (const question of [
      { token: "none" },
      { token: forged },
      { token: "x".repeat(9_000) },
      await as("ada", -16),
      { headers: { authorization: "Basic YTpi" } },
      { token: await userToken({ sub: "" }) },
    ]) {
      const { status, headers, body } = await ask(url, question);
      expect([status, body["code"], body["retryable"]]).toEqual([401, "unauthenticated", false]);
      expect(headers.get("content-type")).toContain("application/problem+json");
    }
    const { body } = await ask(url, { token: "x".repeat(9_000) });
    expect(JSON.stringify(body)).toContain("the token is longer than 8192 characters");
    expect((await bootstrap(url, await as("ada", -14))).group).toBe("canary");
  });

  test("BOOT-3: a draining or full node is not offered", async () => {
    const report = (node: string, own: Partial<NodeReport>): NodeReport =>
      nodeReport({
        node,
        instance: node,
        url: `https://${node}.example`,
        maxConnections: 10,
        admissionWeight: 0,
        ...own,
      });
    const budget = { budgetPerSecond: 1_000, heldPerSecond: 0 };
    const { nodeRegistry } = stores;
    await nodeRegistry.report(report("empty", {}), budget);
    await nodeRegistry.report(report("draining", { state: "draining" }), budget);
    await nodeRegistry.report(report("full", { connections: 10 }), budget);
    await eventually(async () => (await addressesOf(url)).has("https://empty.example"));
    const offered = await addressesOf(url, 300);
    expect([...offered].filter((one) => !addresses.has(one) && one !== "https://empty.example")).toEqual([]);
    for (const name of ["empty", "draining", "full"]) await nodeRegistry.leave(name);
    await eventually(() => ["node-1", "node-2"].every((node) => known.get(node) === "node-1,node-2"));
    for (const node of fleet.urls) expect(await addressesOf(node)).not.toContain("https://empty.example");
  });

  test("BOOT-3: a stopping node no longer offers itself, and soon no other node offers it", async () => {
    const [, stopping = ""] = fleet.urls;
    const last = await connectClient(stopping);
    registryAway = true;
    const stopped = fleet.gateways[1]?.stop();
    expect(await addressesOf(stopping, 20)).toEqual(new Set(["https://one.example"]));
    registryAway = false;
    await eventually(() => known.get("node-1") === "node-1");
    expect(await addressesOf(url)).toEqual(new Set(["https://one.example"]));
    last.socket.disconnect();
    await stopped;
  });

  test("ROLL-1: rollouts stay in force while the store is away", async () => {
    await redis.stop();
    expect((await bootstrap(url, await as("ada"))).group).toBe("canary");
  });
});

describe("one node", () => {
  let fleet: Fleet;
  let url: string;
  beforeAll(async () => {
    fleet = await startFleet({
      environment: { GATEWAY_MAX_CONNECTIONS: "3", GATEWAY_ADMISSIONS_PER_SECOND: "40" },
    });
    url = fleet.urls[0] ?? "";
  });
  afterAll(() => fleet.stop());

  test("BOOT-5: without a configured address, the answer has the origin of the request", async () => {
    expect((await bootstrap(url)).url).toBe(url);
    const answer = await askAs(url, {
      host: "live.example:8443",
      "x-forwarded-proto": "https",
      "x-forwarded-host": "evil",
    });
    expect(answer["url"]).toBe("http://live.example:8443");
    expect((await askAs(url, { host: "live.example/path" }))["code"]).toBe("invalid_request");
  });

  test("BOOT-7: by default any page may read the answer", async () => {
    const { headers } = await ask(url, { headers: { origin: "https://anywhere.example" } });
    expect(headers.get("access-control-allow-origin")).toBe("*");
  });

  test("BOOT-4: while no node has a free seat, each client gets a reconnect time of its own", async () => {
    for (let seat = 0; seat < 3; seat++) await connectClient(url);
    const began = performance.now();
    // With the four before fewer than the 80 that one address may ask at once.
    const refusals = await Promise.all(Array.from({ length: 75 }, () => ask(url)));
    const passedMs = performance.now() - began;
    for (const { status, headers, body } of refusals) {
      expect([status, body["code"], body["retryable"]]).toEqual([503, "upstream_unavailable", true]);
      expect(Number(headers.get("retry-after"))).toBe(Math.ceil(Number(body["retryAfterMs"]) / 1_000));
    }
    const times = refusals.map(({ body }) => Number(body["retryAfterMs"])).sort((one, other) => one - other);
    expect(times[0]).toBeGreaterThanOrEqual(5_000);
    // Forty a second are admitted: 25 ms apart.
    expect(times.at(-1)).toBeGreaterThanOrEqual(5_000 + 74 * 25 - passedMs);
    expect(new Set(times).size).toBeGreaterThan(60);
    closeClients();
    await eventually(async () => (await ask(url)).status === 200);
  });

  test("ROLL-5: a group with its own address is sent there, also while all nodes are full", async () => {
    // Each answer counts as a seat until the next reports.
    await eventually(async () => (await ask(url)).status === 503);
    const rollouts = { groups: [], fallback: { name: "legacy", url: "https://old.example/live" } };
    expect((await fleet.api("PUT", "/v1/rollouts", rollouts)).status).toBe(200);
    await eventually(async () => (await ask(url)).body["url"] === "https://old.example/live");
  });

  test("BOOT-6: past its rate, a node refuses clients, each with a later retry-after", async () => {
    // No time passes for the budget, however long they take.
    const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now());
    onTestFinished(() => clock.mockRestore());
    const answers = await Promise.all(Array.from({ length: 500 }, () => ask(url)));
    const refused = answers.filter(({ status }) => status !== 200);
    expect(500 - refused.length).toBeLessThanOrEqual(101);
    for (const { status, headers, body } of refused) {
      expect([status, body["code"], body["retryable"]]).toEqual([429, "rate_limited", true]);
      expect(headers.get("retry-after")).not.toBeNull();
    }
    const times = refused.map(({ body }) => Number(body["retryAfterMs"]));
    expect(Math.min(...times)).toBeGreaterThanOrEqual(1_000);
    expect(Math.max(...times)).toBeGreaterThanOrEqual(1_000 + (refused.length - 1) * 10);
  });
});

test("BOOT-2: while keys cannot be fetched, only requests with a token are refused, retryably", async () => {
  const fleet = await startFleet({
    environment: { AUTH_JWT_SECRET: "", AUTH_JWKS_URL: `http://127.0.0.1:${await freePort()}/keys` },
  });
  onTestFinished(() => fleet.stop());
  const [url = ""] = fleet.urls;
  const { privateKey } = await generateKeyPair("ES256");
  const token = await new SignJWT({ sub: "ada" })
    .setProtectedHeader({ alg: "ES256" })
    .setExpirationTime("1h")
    .sign(privateKey);
  const { status, body } = await ask(url, { token });
  expect([status, body["code"], body["retryable"]]).toEqual([503, "upstream_unavailable", true]);
  expect(body["retryAfterMs"]).toBeGreaterThan(0);
  expect((await ask(url)).status).toBe(200);
});

test("BOOT-5: the scheme of the request comes from a trusted proxy", async () => {
  const fleet = await startFleet({ environment: { TRUSTED_PROXIES: "loopback" } });
  onTestFinished(() => fleet.stop());
  const [url = ""] = fleet.urls;
  const urlFor = async (proto: string): Promise<unknown> =>
    (await askAs(url, { host: "live.example", "x-forwarded-proto": proto }))["url"];
  expect(await urlFor("https")).toBe("https://live.example");
  expect(await urlFor("https, http")).toBe("https://live.example");
  expect(await urlFor("HTTPS")).toBe("https://live.example");
  expect(await urlFor("Https , http")).toBe("https://live.example");
  expect(await urlFor("gopher")).toBe("http://live.example");
});

describe("beside an address that sends requests endlessly", () => {
  let fleet: Fleet;
  let url: string;
  async function start(environment: Record<string, string>): Promise<void> {
    fleet = await startFleet({ environment });
    url = fleet.urls[0] ?? "";
  }
  afterEach(async () => {
    vi.restoreAllMocks();
    closeClients();
    await fleet.stop();
  });

  test("BOOT-8: modest addresses are served; refused ones do not wait behind the greedy one", async () => {
    await start({ GATEWAY_ADMISSIONS_PER_SECOND: "40" });
    const greedy = Array.from({ length: 4 }, () => repeat(async () => ask(url)));
    await Promise.all(Array.from({ length: 1_200 }, () => ask(url)));
    // From now on no time passes for the budget, however long the others take.
    vi.spyOn(performance, "now").mockReturnValue(performance.now());
    const others = await Promise.all(Array.from({ length: 15 }, (_, i) => askFrom(`127.0.0.${i + 2}`, url)));
    // A crowd behind another address, some of which is refused.
    const crowd = await Promise.all(Array.from({ length: 200 }, () => askFrom("127.0.1.1", url)));
    await Promise.all(greedy.map(async (each) => each.stop()));
    expect(others.map(({ status }) => status)).toEqual(Array(15).fill(200));
    const times = crowd.filter(({ status }) => status === 429).map(({ retryAfterMs }) => retryAfterMs);
    expect(Math.min(...times)).toBeGreaterThanOrEqual(1_000);
    expect(Math.min(...times)).toBeLessThan(7_000);
    expect(new Set(times).size).toBeGreaterThan(times.length / 2);
  });

  test("BOOT-9: refusals are delayed, while other requests are answered", async () => {
    await start({ GATEWAY_ADMISSIONS_PER_SECOND: "40" });
    // No time passes for the budget: it is empty before all have asked, however long that takes.
    vi.spyOn(performance, "now").mockReturnValue(performance.now());
    const times = await Promise.all(
      Array.from({ length: 300 }, async () => {
        const began = Date.now();
        const { status } = await ask(url);
        return { status, ms: Date.now() - began };
      }),
    );
    const took = (wanted: number): number[] => times.filter(({ status }) => status === wanted).map(({ ms }) => ms);
    const refused = took(429);
    expect(refused.length).toBeGreaterThan(100);
    expect(refused.filter((ms) => ms < 450)).toEqual([]);
    expect(Math.min(...took(200))).toBeLessThan(Math.min(...refused));
  });

  test("RET-1: while no node has room, one address does not use up the reconnect times of others", async () => {
    await start({ GATEWAY_MAX_CONNECTIONS: "1", GATEWAY_ADMISSIONS_PER_SECOND: "1" });
    await connectClient(url);
    await eventually(async () => (await ask(url)).status === 503);
    // At one a second, its reconnect times would reach a minute ahead.
    await Promise.all(Array.from({ length: 60 }, () => ask(url)));
    const refused = await askFrom("127.0.2.1", url);
    expect(refused.status).toBe(503);
    expect(refused.retryAfterMs).toBeGreaterThanOrEqual(5_000);
    expect(refused.retryAfterMs).toBeLessThan(13_000);
  });
});
