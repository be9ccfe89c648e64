/** Restarts a fleet of real processes one after the other under running clients. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { jwtSecret, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { MovingClient } from "../support/moving-client.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients } from "../support/stock-client.ts";

const nodes = ["node-1", "node-2"];
const operatorToken = "operator-token-of-the-test";
const channel = "public:1";
let redis: RedisServer;
/** The operator's restart command: restarts the process of a node. */
let restarter: HttpService;
let privateApi: Spawned;
let apiUrl: string;
const ports = new Map<string, number>();
const running = new Map<string, Spawned>();

beforeAll(async () => {
  redis = await startRedis();
  restarter = await startService();
  const port = await freePort();
  apiUrl = `http://127.0.0.1:${port}`;
  privateApi = spawnProcess(process.execPath, ["private-api/main.ts"], {
    env: {
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_PORT: String(port),
      PRIVATE_API_TOKENS: JSON.stringify([
        { name: "gateway", token: tokens.relay, scopes: ["relay"] },
        { name: "operator", token: operatorToken, scopes: ["read", "operate", "publish", "rules"] },
      ]),
      REDIS_URL: redis.url,
    },
  });
  const rules = { namespaces: { public: { access: "user", historySize: 1000 } } };
  await privateApi.printed("private API listening");
  await eventually(async () => (await api("PUT", "/v1/rules", rules)).ok);
  // They read the rules before they are ready.
  for (const node of nodes) {
    ports.set(node, await freePort());
    start(node);
  }
  await eventually(async () => (await states()).join() === "ready,ready");
});
afterEach(closeClients);
afterAll(async () => {
  for (const spawned of [privateApi, ...running.values()]) spawned.kill("SIGKILL");
  await restarter.stop();
  await redis.stop();
});

function start(node: string): void {
  const gateway = spawnProcess(process.execPath, ["gateway/main.ts"], {
    env: {
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: String(ports.get(node)),
      GATEWAY_ADMIN_PORT: "0",
      GATEWAY_NODE: node,
      GATEWAY_DRAIN_SECONDS: "8",
      // A new registry gives out only a part of the budget.
      GATEWAY_ADMISSIONS_PER_SECOND: "100000",
      PRIVATE_API_URL: apiUrl,
      PRIVATE_API_TOKEN: tokens.relay,
      AUTH_JWT_SECRET: jwtSecret,
      REDIS_URL: redis.url,
    },
  });
  running.set(node, gateway);
}

async function api(method: string, path: string, body?: unknown): Promise<Response> {
  return fetch(apiUrl + path, {
    method,
    headers: {
      authorization: `Bearer ${operatorToken}`,
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
}

async function states(): Promise<string[]> {
  const answer = await api("GET", "/v1/nodes").catch(() => undefined);
  if (!answer?.ok) return [];
  return ((await answer.json()) as { nodes: { state: string }[] }).nodes.map(({ state }) => state);
}

function rollingRestart(command: string, more: readonly string[] = []): Spawned {
  const args = ["deploy/rolling-restart.ts", "--api", apiUrl, "--restart", command, ...more];
  return spawnProcess(process.execPath, args, { env: { TIDEGATE_API_TOKEN: operatorToken } });
}

test("DRAIN-8: each node is drained, restarted and awaited; moving clients miss nothing", async () => {
  restarter.answer = ({ path }, response) => {
    const node = path.slice(1);
    const old = running.get(node);
    old?.kill("SIGTERM");
    void old?.exited.then((code) => {
      start(node);
      answerJson(response, { code });
    });
  };
  const url = (node: string): string => `http://127.0.0.1:${ports.get(node)}`;
  const elsewhere = (node: string): string => url(nodes[(nodes.indexOf(node) + 1) % nodes.length] ?? "");
  const clients = await Promise.all(
    Array.from({ length: 12 }, async (_, at) =>
      MovingClient.connect({ url: url(nodes[at % 2] ?? ""), elsewhere, channel, claims: { sub: `user-${at}` } }),
    ),
  );
  const commanded = rollingRestart(`${process.execPath} -e 'fetch("${restarter.url}/" + process.argv[1])' {node}`);
  let over = false;
  void commanded.exited.then(() => (over = true));
  let last = 0;
  while (!over) {
    const answer = await api("POST", "/v1/publish", { channel, event: "tick", data: last });
    last = ((await answer.json()) as { offset: number }).offset;
  }
  expect(commanded.output()).toMatch(/2 nodes restarted; sessions 18, moved 18, closed 0, forced 0, lost 0, left 0/);
  expect(await commanded.exited).toBe(0);
  expect(restarter.requests.map(({ path }) => path)).toEqual(["/node-1", "/node-2"]);
  await eventually(() => clients.every(({ offsets }) => offsets.at(-1) === last));
  for (const { offsets } of clients) expect(offsets).toEqual(Array.from({ length: last }, (_, at) => at + 1));
  expect(await states()).toEqual(["ready", "ready"]);
});

test("CMD-2: a restart stops at the first node whose command fails, and says how it is left", async () => {
  const unnamed = rollingRestart("exit 3");
  expect(await unnamed.exited).toBe(78);
  expect(unnamed.output()).toContain("{node}");
  const commanded = rollingRestart("echo {node}; exit 3", ["--json"]);
  expect(await commanded.exited).toBe(1);
  expect(commanded.output()).toContain("node-1: the restart command ended with 3");
  expect(commanded.output()).toContain('"restarted":[]');
  expect(commanded.output()).toContain('"failed":{"node":"node-1","step":"restarting"},"untouched":["node-2"]');
  expect(commanded.output()).toContain("node-1 is drained: it takes no client until it is restarted");
  // Drained through the API, the process runs until it is stopped.
  expect(await states()).toEqual(["draining", "ready"]);
});
