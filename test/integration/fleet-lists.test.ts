/** What the private API lists of a fleet: channels with followers, connected users, sessions of a node; and calls that end a drain. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { RedisNodeRegistry } from "../../shared/nodes/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { spawnProcess } from "../support/processes.ts";
import { nodeReport } from "../support/node-reports.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
let one: string;
let two: string;

beforeAll(async () => {
  redis = await startRedis();
  const rules = { namespaces: { room: { access: "user" } } };
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2, rules });
  [one = "", two = ""] = fleet.urls;
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

interface Page {
  items: Record<string, unknown>[];
  next?: string;
  missing?: string[];
}

/** Of both nodes: on a machine that stands still for a moment one of them may not answer in time. */
async function list(path: string): Promise<Page> {
  for (;;) {
    const { status, body, text } = await fleet.api("GET", path, undefined, { token: tokens.reader });
    expect(status, text).toBe(200);
    if (!("missing" in body)) return body as unknown as Page;
  }
}

/** All pages. */
async function listAll(path: string, limit: number): Promise<Record<string, unknown>[]> {
  const items: Record<string, unknown>[] = [];
  for (let after = ""; ;) {
    const page = await list(`${path}?limit=${limit}${after}`);
    expect(page.items.length).toBeLessThanOrEqual(limit);
    items.push(...page.items);
    if (page.next === undefined) return items;
    after = `&after=${encodeURIComponent(page.next)}`;
  }
}

test("LIST-1: channels with followers, users and a node's sessions are listed over all nodes", async () => {
  const [ada, again, grace] = await Promise.all([
    connectClient(one, { sub: "ada" }),
    connectClient(two, { sub: "ada" }),
    connectClient(two, { sub: "ada", tenant: "acme" }),
  ]);
  for (const client of [ada, again]) await client.subscribe("room:a");
  await grace.subscribe("room:b");
  await grace.subscribe("room:c");
  await grace.request("sync:unsubscribe", { channel: "room:c" });
  expect(await list("/v1/channels")).toEqual({
    items: [
      { channel: "room:a", sessions: 2, nodes: 2 },
      { channel: "room:b", sessions: 1, nodes: 1 },
    ],
  });
  expect(await list("/v1/users")).toEqual({
    items: [
      { user: "ada", tenant: "acme", sessions: 1 },
      { user: "ada", sessions: 2 },
    ],
  });
  const sessions = await list("/v1/nodes/node-2/sessions");
  const listed = [
    { sessionId: again.welcome.sessionId, user: "ada", connectedAt: expect.any(Number) as number, channels: 1 },
    {
      ...{ sessionId: grace.welcome.sessionId, user: "ada", tenant: "acme" },
      ...{ connectedAt: expect.any(Number) as number, channels: 1 },
    },
  ];
  expect(sessions).toEqual({
    items: listed.toSorted((left, right) => (left.sessionId < right.sessionId ? -1 : 1)),
  });
  expect(Math.abs(Date.now() - Number(sessions.items[0]?.["connectedAt"]))).toBeLessThan(60_000);
  closeClients();
  await eventually(async () => (await list("/v1/users")).items.length === 0);
  expect(await list("/v1/channels")).toEqual({ items: [] });
});

test("LIST-2: pages hold each item once, in order, also of two nodes that hold the same", async () => {
  const clients = await Promise.all(
    Array.from({ length: 7 }, async (_, at) => connectClient(at % 2 ? one : two, { sub: `user:${at}`, tenant: "t/1" })),
  );
  for (const [at, client] of clients.entries()) {
    for (const channel of ["room:all", `room:${at}`]) await client.subscribe(channel);
  }
  for (const limit of [1, 3, 200]) {
    expect((await listAll("/v1/users", limit)).map(({ user }) => user)).toEqual(clients.map((__, at) => `user:${at}`));
    expect(await listAll("/v1/channels", limit)).toEqual([
      ...clients.map((__, at) => ({ channel: `room:${at}`, sessions: 1, nodes: 1 })),
      { channel: "room:all", sessions: 7, nodes: 2 },
    ]);
  }
  expect(await listAll("/v1/nodes/node-1/sessions", 2)).toHaveLength(3);
  expect((await list("/v1/channels?after=room:6")).items).toHaveLength(1);
});

test("LIST-2: an unknown node, a bad query and a missing scope are refused", async () => {
  const code = ({ status, body }: ApiAnswer): unknown[] => [status, body["code"]];
  expect(code(await fleet.api("GET", "/v1/nodes/node-9/sessions"))).toEqual([404, "not_found"]);
  for (const query of ["limit=0", "limit=201", "before=x"]) {
    expect(code(await fleet.api("GET", `/v1/channels?${query}`))).toEqual([400, "invalid_request"]);
  }
  expect(code(await fleet.api("GET", "/v1/users", undefined, { token: tokens.relay }))).toEqual([403, "missing_scope"]);
  expect(code(await fleet.api("POST", "/v1/nodes/node-9/undrain"))).toEqual([404, "not_found"]);
});

test("CMD-3: the command for nodes prints lists over all pages, and orders drains", async () => {
  const clients = await Promise.all([connectClient(one, { sub: "ada" }), connectClient(two, { sub: "grace" })]);
  for (const client of clients) await client.subscribe("room:a");
  const run = async (words: string, token = tokens.service): Promise<string> => {
    const args = ["deploy/nodes.ts", ...words.split(" "), "--api", fleet.apiUrl];
    const command = spawnProcess(process.execPath, args, { env: { TIDEGATE_API_TOKEN: token } });
    return `${await command.exited} ${command.output()}`;
  };
  // A node reports its connections once a second.
  await eventually(async () => /^0 node-1 +ready +1 connections\nnode-2 +ready/.test(await run("list")));
  await eventually(async () => (await run("channels")) === "0 room:a  2 sessions on 2 nodes\n");
  await eventually(
    async () => (await run("users --json")) === '0 {"user":"ada","sessions":1}\n{"user":"grace","sessions":1}\n',
  );
  expect(await run("sessions node-2")).toMatch(
    new RegExp(`^0 ${clients[1]?.welcome.sessionId} +grace +since .* 1 channels`),
  );
  expect(await run("undrain node-2")).toContain("0 node-2: undrain ordered");
  expect(await run("remove node-2")).toMatch(/^78 name a command: .*npm run nodes/s);
  expect(await run("drain")).toMatch(/^78 NODE: /);
  expect(await run("drain node-9")).toMatch(/^1 .*404.*no such node/);
  expect(await run("drain node-2", tokens.reader)).toMatch(/^1 .*403.*missing_scope/);
});

test("LIST-3: nodes that do not answer are named, and more lists at once than four wait for later", async () => {
  const connections = new RedisConnections({
    target: { kind: "standalone", url: redis.url },
    errors: quietErrors,
    logger: quietLogger,
  });
  await connections.start();
  const registry = new RedisNodeRegistry(new Cells(connections));
  const silent = nodeReport({ node: "silent" });
  await connectClient(one);
  await registry.report(silent, { budgetPerSecond: 100_000, heldPerSecond: 0 });
  const answers = await Promise.all(Array.from({ length: 6 }, async () => fleet.api("GET", "/v1/users")));
  const accepted = answers.filter(({ status }) => status === 200);
  for (const { body } of accepted) expect(body["missing"]).toContain("silent");
  expect(accepted.map(({ body }) => body["items"])).toContainEqual([{ user: "ada", sessions: 1 }]);
  expect(answers.filter(({ status }) => status === 429).map(({ body }) => body["retryable"])).toEqual([true, true]);
  expect(accepted).toHaveLength(4);
  await registry.leave(silent.instance);
  await connections.stop();
});
