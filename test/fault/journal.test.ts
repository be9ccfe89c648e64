/** Webhooks of sources with a journal while Redis is away: real processes, killed in every state. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { jwtSecret, serviceSecret, tokens } from "../support/fleet.ts";
import { type HookReply, sendHook } from "../support/hook-sender.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { spawnPrivateApi } from "../support/private-api-process.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

interface StartedGateway {
  readonly url: string;
  readonly adminUrl: string;
  readonly process: Spawned;
}

let root: string;
let redis: RedisServer;
let service: HttpService;
let processes: Spawned[] = [];

beforeAll(async () => {
  redis = await startRedis({ appendOnly: true });
  service = await startService();
  const connections = new RedisConnections({
    target: { kind: "standalone", url: redis.url },
    errors: quietErrors,
    logger: quietLogger,
  });
  await connections.start();
  await new RedisDocumentStore(new Cells(connections), "rules").put({
    document: {
      services: { hooks: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ event: "hook", service: "hooks", path: "/", mode: "enqueue", retry: { minMs: 1, maxMs: 50 } }],
      sources: {
        kept: { verify: "none", route: "hook", key: "body:/key", id: "body:/id", journal: true },
        nameless: { verify: "none", route: "hook", key: "body:/key", journal: true },
        other: { verify: "none", route: "hook", key: "body:/key" },
      },
    },
    changedAt: Date.now(),
  });
  await connections.stop();
});
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "tidegate-journal-"));
  service.answer = (_request, response) => answerJson(response, {});
});
afterEach(async () => {
  for (const process of processes) process.kill("SIGKILL");
  await Promise.all(processes.map(async ({ exited }) => exited));
  processes = [];
  if (redis.running) redis.signal("SIGCONT");
  else await redis.restart();
  await rm(root, { recursive: true, force: true });
});
afterAll(async () => {
  await service.stop();
  await redis.stop();
});

async function startWorker(): Promise<Spawned> {
  return (await spawnPrivateApi({ REDIS_URL: redis.url }, processes)).process;
}

/** @param command runs the gateway. */
async function startGateway(
  node: string,
  {
    env = {},
    command = [process.execPath, "gateway/main.ts"],
  }: { env?: Record<string, string>; command?: string[] } = {},
): Promise<StartedGateway> {
  const [port, adminPort] = [await freePort(), await freePort()];
  const [program = "", ...args] = command;
  const gateway = spawnProcess(program, args, {
    env: {
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: String(adminPort),
      GATEWAY_NODE: node,
      GATEWAY_DRAIN_SECONDS: "0",
      AUTH_JWT_SECRET: jwtSecret,
      PRIVATE_API_TOKEN: tokens.relay,
      PRIVATE_API_URL: "http://127.0.0.1:9",
      REDIS_URL: redis.url,
      JOURNAL_DIR: root,
      ...env,
    },
  });
  processes.push(gateway);
  await gateway.printed("gateway listening");
  return { url: `http://127.0.0.1:${port}`, adminUrl: `http://127.0.0.1:${adminPort}`, process: gateway };
}

async function kill({ process }: { process: Spawned }): Promise<void> {
  process.kill("SIGKILL");
  await process.exited;
}

let keys = 0;
function newKey(): string {
  return `key-${process.pid}-${++keys}`;
}

async function send({ url }: StartedGateway, key: string, n: number, source = "kept"): Promise<HookReply> {
  return sendHook(url, source, { body: JSON.stringify({ key, n, id: `${key} ${n}` }) });
}

/** One after the other; each is accepted. */
async function sendAll(gateway: StartedGateway, key: string, from: number, to: number, source = "kept"): Promise<void> {
  for (let n = from; n <= to; n++) expect((await send(gateway, key, n, source)).status).toBe(202);
}

function arrivals(key: string): ServiceRequest[] {
  return service.requests.filter(({ body }) => body.includes(`"${key}"`));
}

function numbers(key: string): number[] {
  return arrivals(key).map(({ body }) => (JSON.parse(body) as { n: number }).n);
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1);
}

async function metric({ adminUrl }: StartedGateway, series: string): Promise<number> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(`tidegate_${series} `));
  return Number(line?.split(" ")[1] ?? 0);
}

async function readiness({ adminUrl }: StartedGateway): Promise<Record<string, unknown>> {
  const answer = await fetch(`${adminUrl}/readyz`);
  return { code: answer.status, ...((await answer.json()) as object) };
}

test("JRN-1: through an outage each key of a node arrives once and in order, on two nodes", async () => {
  const nodes = await Promise.all(["one", "two"].map(async (node) => startGateway(node)));
  await startWorker();
  const owned = nodes.flatMap((node) => [newKey(), newKey()].map((key) => ({ node, key })));
  await Promise.all(owned.map(async ({ node, key }) => sendAll(node, key, 1, 5)));
  await redis.kill();
  await Promise.all(owned.map(async ({ node, key }) => sendAll(node, key, 6, 40)));
  await redis.restart();
  await Promise.all(owned.map(async ({ node, key }) => sendAll(node, key, 41, 80)));
  await eventually(() => owned.every(({ key }) => new Set(numbers(key)).size === 80));
  for (const { key } of owned) {
    expect([...new Set(numbers(key))]).toEqual(upTo(80));
    expect(numbers(key)).toEqual(numbers(key).toSorted((a, b) => a - b));
    const headers = [...new Map(arrivals(key).map(({ body, headers }) => [body, headers])).values()];
    const sequences = headers.map((each) => String(each["ce-sequence"]));
    expect(sequences).toEqual(sequences.toSorted());
    expect(new Set(headers.map((each) => each["ce-id"])).size).toBe(80);
  }
  for (const node of nodes) await eventually(async () => (await metric(node, "journal_bytes")) === 0);
});

test("JRN-4: what is sent while Redis hangs arrives once and in order, with or without an id", async () => {
  const gateway = await startGateway("one");
  await startWorker();
  for (const source of ["kept", "nameless"]) {
    const key = newKey();
    await sendAll(gateway, key, 1, 3, source);
    redis.signal("SIGSTOP");
    const replies: Promise<HookReply>[] = [];
    let bytes = 0;
    for (let n = 4; n <= 9; n++) {
      const reply = send(gateway, key, n, source);
      replies.push(reply);
      let isAnswered = false;
      void reply.then(() => (isAnswered = true));
      // It has arrived: it waits for Redis, or is in the journal.
      await eventually(async () => isAnswered || (await metric(gateway, "webhook_bytes")) > bytes);
      bytes = await metric(gateway, "webhook_bytes");
    }
    for (const { status } of await Promise.all(replies)) expect(status).toBe(202);
    redis.signal("SIGCONT");
    await sendAll(gateway, key, 10, 12, source);
    await eventually(() => new Set(numbers(key)).size === 12);
    expect([...new Set(numbers(key))]).toEqual(upTo(12));
    expect(new Set(arrivals(key).map(({ headers }) => headers["ce-sequence"])).size).toBe(12);
    await eventually(async () => (await metric(gateway, "journal_items")) === 0);
  }
});

test("JRN-8: repeats get the same answer and arrive once; readiness and metrics show the journal", async () => {
  const gateway = await startGateway("one");
  await startWorker();
  const [key, nameless] = [newKey(), newKey()];
  expect(await readiness(gateway)).toMatchObject({ code: 200, checks: { journal: "ok" }, journal: { items: 0 } });
  await redis.kill();
  await sendAll(gateway, key, 1, 3);
  await sendAll(gateway, key, 2, 3);
  await sendAll(gateway, nameless, 1, 2, "nameless");
  const refused = await send(gateway, key, 9, "other");
  expect([refused.status, refused.code]).toEqual([503, "broker_unavailable"]);
  const during = await readiness(gateway);
  expect(during).toMatchObject({
    code: 200,
    status: "degraded",
    checks: { journal: "degraded" },
    journal: { items: 7 },
  });
  expect(await metric(gateway, "journal_items")).toBe(7);
  expect(await metric(gateway, "journal_bytes")).toBeGreaterThan(7 * 100);
  await eventually(async () => (await metric(gateway, "journal_oldest_seconds")) > 0);
  expect(await metric(gateway, 'webhooks_total{source="kept",outcome="journaled"}')).toBe(5);
  await redis.restart();
  await eventually(() => numbers(key).length === 3 && numbers(nameless).length === 2);
  // Until then webhooks go to the journal, also once none of its items is left.
  await gateway.process.printed("journal is replayed");
  expect(await metric(gateway, "journal_items")).toBe(0);
  await sendAll(gateway, key, 1, 4);
  await eventually(() => numbers(key).length === 4);
  expect(numbers(key)).toEqual([1, 2, 3, 4]);
  expect(await metric(gateway, 'journal_items_total{outcome="written"}')).toBe(7);
  expect(await metric(gateway, 'journal_items_total{outcome="replayed"}')).toBe(5);
  expect(await metric(gateway, 'journal_items_total{outcome="duplicate"}')).toBe(2);
  expect(await readiness(gateway)).toMatchObject({ checks: { journal: "ok" }, journal: { bytes: 0, oldestMs: 0 } });
});

test("JRN-5: a gateway killed during the outage replays what it acknowledged before newer items", async () => {
  const first = await startGateway("one");
  await startWorker();
  const key = newKey();
  await sendAll(first, key, 1, 2);
  await redis.kill();
  await sendAll(first, key, 3, 30);
  await kill(first);
  // A gateway that starts during the outage knows no sources yet.
  const second = await startGateway("one");
  expect((await send(second, key, 31)).status).toBe(503);
  await redis.restart();
  await eventually(async () => (await send(second, key, 31)).status === 202);
  await sendAll(second, key, 32, 40);
  await eventually(() => new Set(numbers(key)).size === 40);
  expect([...new Set(numbers(key))]).toEqual(upTo(40));
});

/** Stalls the link once Redis has run 250 scripts: two batches of a replay, and a part of the third. */
async function stallAmid(link: TcpProxy): Promise<void> {
  const client = new Redis(redis.url);
  const monitor = await client.monitor();
  onTestFinished(() => {
    monitor.disconnect();
    client.disconnect();
  });
  let scripts = 0;
  monitor.on("monitor", (_time: string, [command = ""]: string[], source: string) => {
    if (source !== "lua" && /^eval/i.test(command) && ++scripts === 250) link.set("stalled");
  });
}

test("JRN-5: a gateway killed during the replay continues it; each item is stored once, in order", async () => {
  const link = await startTcpProxy(redis.port);
  onTestFinished(async () => link.stop());
  const first = await startGateway("one", { env: { REDIS_URL: `redis://127.0.0.1:${link.port}` } });
  const names = [newKey(), newKey(), newKey(), newKey()];
  await redis.kill();
  link.set("closed");
  await Promise.all(names.map(async (key) => sendAll(first, key, 1, 400)));
  await redis.restart();
  await stallAmid(link);
  link.heal();
  const replayed = async (): Promise<number> => metric(first, 'journal_items_total{outcome="replayed"}');
  await eventually(async () => (await replayed()) > 0);
  await kill(first);
  const second = await startGateway("one");
  expect(second.process.output()).toContain("journal of an earlier process is replayed");
  await Promise.all(names.map(async (key) => sendAll(second, key, 401, 410)));
  await startWorker();
  await eventually(() => names.every((key) => numbers(key).length >= 410));
  for (const key of names) expect(numbers(key)).toEqual(upTo(410));
});

test("JRN-3: on a full disk the answer is 503, and everything that was acknowledged is delivered", async () => {
  // A disk of the process's own, which needs no rights on the machine.
  const script = 'mount -t tmpfs -o size=200k tmpfs "$JOURNAL_DIR" && exec "$0" gateway/main.ts';
  const command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, process.execPath];
  const gateway = await startGateway("one", { command });
  await startWorker();
  const key = newKey();
  await redis.kill();
  const accepted: number[] = [];
  const refusals: HookReply[] = [];
  for (let n = 1; refusals.length < 3; n++) {
    const body = JSON.stringify({ key, n, id: `${key} ${n}`, padding: "x".repeat(n % 3 === 0 ? 100 : 9_000) });
    const reply = await sendHook(gateway.url, "kept", { body });
    if (reply.status === 202) accepted.push(n);
    else refusals.push(reply);
  }
  expect(accepted.length).toBeGreaterThan(10);
  expect(refusals.map(({ status, code, headers }) => [status, code, headers.get("retry-after")])).toEqual(
    Array.from({ length: 3 }, () => [503, "broker_unavailable", "1"]),
  );
  expect(gateway.process.output()).toContain("ENOSPC");
  await redis.restart();
  await eventually(() => numbers(key).length === accepted.length);
  await eventually(async () => (await metric(gateway, "journal_bytes")) === 0);
  expect(numbers(key)).toEqual(accepted);
});

test("JRN-9: a gateway that stops in an outage keeps its journal, says so, and the next one replays it", async () => {
  const first = await startGateway("one");
  const key = newKey();
  await redis.kill();
  await sendAll(first, key, 1, 5);
  first.process.kill("SIGTERM");
  expect(await first.process.exited).toBe(0);
  expect(first.process.output()).toContain("journal is not replayed");
  await redis.restart();
  await startWorker();
  await startGateway("one");
  await eventually(() => numbers(key).length === 5);
  expect(numbers(key)).toEqual(upTo(5));
});

test("JRN-9: a gateway that stops once storage is back empties its journal first", async () => {
  const gateway = await startGateway("one");
  await startWorker();
  const key = newKey();
  await redis.kill();
  await sendAll(gateway, key, 1, 20);
  await redis.restart();
  await eventually(() => numbers(key).length > 0);
  gateway.process.kill("SIGTERM");
  expect(await gateway.process.exited).toBe(0);
  expect(gateway.process.output()).not.toContain("journal is not replayed");
  await eventually(() => numbers(key).length === 20);
  expect(numbers(key)).toEqual(upTo(20));
});

test("JRN-7: a gateway whose folder another process uses does not start; without JOURNAL_DIR it warns", async () => {
  await startGateway("one");
  await expect(startGateway("one")).rejects.toThrow("in use by another process");
  const bare = await startGateway("two", { env: { JOURNAL_DIR: "" } });
  await bare.process.printed("set JOURNAL_DIR");
  expect(await readiness(bare)).toMatchObject({ code: 200, checks: { journal: "degraded" } });
  await redis.kill();
  const refused = await send(bare, newKey(), 1);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
});
