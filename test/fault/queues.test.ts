/** Queued events while workers are killed and frozen, a gateway is killed, and Redis restarts: real processes throughout. */
import type { ServerResponse } from "node:http";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { jwtSecret, serviceSecret, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";
import { spawnWorker } from "../support/worker.ts";

/** A lease lasts 10 s, and expired ones are looked for every 5 s. */
const takeOverMs = 30_000;

let redis: RedisServer;
let service: HttpService;
let gateways: { url: string; process: Spawned }[] = [];
let workers: Spawned[] = [];

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
      services: { documents: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [
        {
          event: "edit",
          service: "documents",
          path: "/",
          mode: "enqueue",
          key: "/doc",
          retry: { minMs: 1, maxMs: 50 },
        },
      ],
    },
    changedAt: Date.now(),
  });
  await connections.stop();
});
beforeEach(() => {
  service.answer = (_request, response) => answerJson(response, {});
});
afterEach(async () => {
  closeClients();
  const processes = [...workers, ...gateways.map(({ process }) => process)];
  workers = [];
  gateways = [];
  for (const process of processes) process.kill("SIGKILL");
  await Promise.all(processes.map(async ({ exited }) => exited));
});
afterAll(async () => {
  await service.stop();
  await redis.stop();
});

async function startWorker(): Promise<Spawned> {
  return spawnWorker(redis.url, tokens.relay, (worker) => workers.push(worker));
}

/** No private API is there for it: events are accepted all the same. */
async function startGateway(): Promise<{ url: string; process: Spawned }> {
  const port = await freePort();
  const gateway = spawnProcess(process.execPath, ["gateway/main.ts"], {
    env: {
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: String(await freePort()),
      GATEWAY_NODE: `node-${port}`,
      GATEWAY_DRAIN_SECONDS: "0",
      AUTH_JWT_SECRET: jwtSecret,
      PRIVATE_API_TOKEN: tokens.relay,
      PRIVATE_API_URL: "http://127.0.0.1:9",
      REDIS_URL: redis.url,
    },
  });
  const started = { url: `http://127.0.0.1:${port}`, process: gateway };
  gateways.push(started);
  await gateway.printed("gateway listening");
  return started;
}

let documents = 0;
function newDocument(): string {
  return `document-${process.pid}-${++documents}`;
}

function arrivals(doc: string): ServiceRequest[] {
  return service.requests.filter(({ body }) => body.includes(`"${doc}"`));
}

function numbers(doc: string): number[] {
  return arrivals(doc).map(({ body }) => (JSON.parse(body) as { n: number }).n);
}

async function emit(client: StockClient, doc: string, from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n++) {
    await eventually(async () => (await client.request("edit", { doc, n }, { id: `${doc} ${n}` })).ok, 20_000);
  }
}

/** Holds the first request back. @returns to answer it. */
function holdFirst(): { held: () => boolean; answer: () => void } {
  let first: ServerResponse | undefined;
  service.answer = (_request, response) => {
    if (first) answerJson(response, {});
    else first = response;
  };
  return { held: () => first !== undefined, answer: () => first && answerJson(first, {}) };
}

test("QFAIL-1: an item whose worker is killed is delivered again, in order, with a higher fence", async () => {
  const doc = newDocument();
  const { url } = await startGateway();
  const worker = await startWorker();
  const client = await connectClient(url);
  const { held } = holdFirst();
  await emit(client, doc, 1, 3);
  await eventually(held);
  worker.kill("SIGKILL");
  await startWorker();
  await eventually(() => numbers(doc).length === 4, takeOverMs);
  expect(numbers(doc)).toEqual([1, 1, 2, 3]);
  const [first, again] = arrivals(doc);
  expect(again?.headers["ce-id"]).toBe(first?.headers["ce-id"]);
  expect((again?.headers["ce-fence"] ?? "") > (first?.headers["ce-fence"] ?? "")).toBe(true);
  expect(again?.headers["tidegate-attempt"]).toBe("2");
}, 60_000);

test("QFAIL-2: a worker that wakes after its lease ended changes nothing", async () => {
  const doc = newDocument();
  const { url } = await startGateway();
  const frozen = await startWorker();
  const client = await connectClient(url);
  const { held, answer } = holdFirst();
  await emit(client, doc, 1, 2);
  await eventually(held);
  frozen.kill("SIGSTOP");
  await startWorker();
  await eventually(() => numbers(doc).length === 3, takeOverMs);
  answer();
  frozen.kill("SIGCONT");
  await emit(client, doc, 3, 6);
  await eventually(() => numbers(doc).length === 7);
  expect(numbers(doc)).toEqual([1, 1, 2, 3, 4, 5, 6]);
}, 60_000);

test("QFAIL-3: an acknowledged event is delivered after its gateway was killed", async () => {
  const doc = newDocument();
  const { url, process: gateway } = await startGateway();
  const client = await connectClient(url);
  // No worker runs: the events are accepted, and wait.
  await emit(client, doc, 1, 5);
  gateway.kill("SIGKILL");
  await gateway.exited;
  expect(arrivals(doc)).toEqual([]);
  await startWorker();
  await eventually(() => numbers(doc).length === 5);
  expect(numbers(doc)).toEqual([1, 2, 3, 4, 5]);
}, 60_000);

test("QFAIL-4: through a restart of Redis nothing acknowledged is lost, and the order stays", async () => {
  const doc = newDocument();
  const { url } = await startGateway();
  await startWorker();
  const client = await connectClient(url);
  await emit(client, doc, 1, 5);
  await redis.kill();
  await redis.restart();
  await emit(client, doc, 6, 10);
  await eventually(() => new Set(numbers(doc)).size === 10, takeOverMs);
  // A settlement that Redis lost makes an item come twice, never out of order.
  expect(numbers(doc)).toEqual(numbers(doc).toSorted((a, b) => a - b));
  expect([...new Set(numbers(doc))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}, 60_000);

test("QFAIL-5: two workers share the queues, and each key stays in order while one of them is killed", async () => {
  const { url } = await startGateway();
  const [one] = [await startWorker(), await startWorker()];
  const client = await connectClient(url);
  const docs = Array.from({ length: 8 }, () => newDocument());
  const emits = Promise.all(docs.map(async (doc) => emit(client, doc, 1, 10)));
  await eventually(() => docs.some((doc) => numbers(doc).length > 3));
  one?.kill("SIGKILL");
  await emits;
  await eventually(() => docs.every((doc) => new Set(numbers(doc)).size === 10), takeOverMs);
  for (const doc of docs) {
    expect(numbers(doc)).toEqual(numbers(doc).toSorted((a, b) => a - b));
    const fences = arrivals(doc).map(({ headers }) => headers["ce-fence"] ?? "");
    expect(fences).toEqual(fences.toSorted((a, b) => (a < b ? -1 : 1)));
  }
}, 60_000);
