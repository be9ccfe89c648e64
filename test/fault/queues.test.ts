/**
 * Queued events while workers are killed and frozen, a gateway is killed, and Redis restarts: real processes throughout.
 * The tests wait for leases to end: they run side by side, each on a deployment of its own.
 */
import type { ServerResponse } from "node:http";
import { afterAll, describe, expect, test, type TestContext } from "vitest";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { jwtSecret, serviceSecret, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { spawnPrivateApi } from "../support/private-api-process.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

afterAll(closeClients);

/** A Redis with rules, a service, and the processes that a test starts. All of it ends with the test. */
class Deployment {
  readonly redis: RedisServer;
  readonly service: HttpService;
  readonly #processes: Spawned[] = [];

  private constructor(redis: RedisServer, service: HttpService) {
    this.redis = redis;
    this.service = service;
  }

  static async start({ onTestFinished }: TestContext): Promise<Deployment> {
    const [redis, service] = await Promise.all([startRedis({ appendOnly: true }), startService()]);
    const deployment = new Deployment(redis, service);
    onTestFinished(() => deployment.#stop());
    await putRules(redis, service);
    return deployment;
  }

  async #stop(): Promise<void> {
    for (const process of this.#processes) process.kill("SIGKILL");
    await Promise.all(this.#processes.map(async ({ exited }) => exited));
    await Promise.all([this.service.stop(), this.redis.stop()]);
  }

  async startWorker(): Promise<Spawned> {
    return (await spawnPrivateApi({ REDIS_URL: this.redis.url }, this.#processes)).process;
  }

  /** No private API is there for it: events are accepted all the same. */
  async startGateway(): Promise<{ url: string; process: Spawned }> {
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
        REDIS_URL: this.redis.url,
      },
    });
    this.#processes.push(gateway);
    await gateway.printed("gateway listening");
    return { url: `http://127.0.0.1:${port}`, process: gateway };
  }

  /** Holds the first request back. @returns to answer it. */
  holdFirst(): { held: () => boolean; answer: () => void } {
    let first: ServerResponse | undefined;
    this.service.answer = (_request, response) => {
      if (first) answerJson(response, {});
      else first = response;
    };
    return { held: () => first !== undefined, answer: () => first && answerJson(first, {}) };
  }

  arrivals(doc = "doc"): ServiceRequest[] {
    return this.service.requests.filter(({ body }) => body.includes(`"${doc}"`));
  }

  numbers(doc = "doc"): number[] {
    return this.arrivals(doc).map(({ body }) => (JSON.parse(body) as { n: number }).n);
  }
}

async function putRules({ url }: RedisServer, service: HttpService): Promise<void> {
  const connections = new RedisConnections({
    target: { kind: "standalone", url },
    errors: quietErrors,
    logger: quietLogger,
  });
  await connections.start();
  const route = { event: "edit", service: "documents", path: "/", mode: "enqueue", key: "/doc" } as const;
  await new RedisDocumentStore(new Cells(connections), "rules").put({
    document: {
      services: { documents: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ ...route, retry: { minMs: 1, maxMs: 50 } }],
    },
    changedAt: Date.now(),
  });
  await connections.stop();
}

async function emit(client: StockClient, from: number, to: number, doc = "doc"): Promise<void> {
  for (let n = from; n <= to; n++) {
    await eventually(async () => (await client.request("edit", { doc, n }, { id: `${doc} ${n}` })).ok);
  }
}

describe.concurrent("queues", { timeout: 300_000 }, () => {
  test("QFAIL-1: an item whose worker is killed is delivered again, in order, with a higher fence", async (context) => {
    const deployment = await Deployment.start(context);
    const { url } = await deployment.startGateway();
    const worker = await deployment.startWorker();
    const client = await connectClient(url);
    const { held } = deployment.holdFirst();
    await emit(client, 1, 3);
    await eventually(held);
    worker.kill("SIGKILL");
    await deployment.startWorker();
    await eventually(() => deployment.numbers().length === 4);
    expect(deployment.numbers()).toEqual([1, 1, 2, 3]);
    const [first, again] = deployment.arrivals();
    expect(again?.headers["ce-id"]).toBe(first?.headers["ce-id"]);
    expect((again?.headers["ce-fence"] ?? "") > (first?.headers["ce-fence"] ?? "")).toBe(true);
    expect(again?.headers["tidegate-attempt"]).toBe("2");
  });

  test("QFAIL-2: a worker that wakes after its lease ended changes nothing", async (context) => {
    const deployment = await Deployment.start(context);
    const { url } = await deployment.startGateway();
    const frozen = await deployment.startWorker();
    const client = await connectClient(url);
    const { held, answer } = deployment.holdFirst();
    await emit(client, 1, 2);
    await eventually(held);
    frozen.kill("SIGSTOP");
    await deployment.startWorker();
    await eventually(() => deployment.numbers().length === 3);
    answer();
    frozen.kill("SIGCONT");
    await emit(client, 3, 6);
    await eventually(() => deployment.numbers().length === 7);
    expect(deployment.numbers()).toEqual([1, 1, 2, 3, 4, 5, 6]);
  });

  test("QFAIL-3: an acknowledged event is delivered after its gateway was killed", async (context) => {
    const deployment = await Deployment.start(context);
    const { url, process: gateway } = await deployment.startGateway();
    const client = await connectClient(url);
    // No worker runs: the events are accepted, and wait.
    await emit(client, 1, 5);
    gateway.kill("SIGKILL");
    await gateway.exited;
    expect(deployment.arrivals()).toEqual([]);
    await deployment.startWorker();
    await eventually(() => deployment.numbers().length === 5);
    expect(deployment.numbers()).toEqual([1, 2, 3, 4, 5]);
  });

  test("QFAIL-4: through a restart of Redis nothing acknowledged is lost, and the order stays", async (context) => {
    const deployment = await Deployment.start(context);
    const { url } = await deployment.startGateway();
    await deployment.startWorker();
    const client = await connectClient(url);
    await emit(client, 1, 5);
    await deployment.redis.kill();
    await deployment.redis.restart();
    await emit(client, 6, 10);
    await eventually(() => new Set(deployment.numbers()).size === 10);
    // A settlement that Redis lost makes an item come twice, never out of order.
    expect(deployment.numbers()).toEqual(deployment.numbers().toSorted((a, b) => a - b));
    expect([...new Set(deployment.numbers())]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("QFAIL-5: two workers share the queues, and each key stays in order while one is killed", async (context) => {
    const deployment = await Deployment.start(context);
    const { url } = await deployment.startGateway();
    const [one] = [await deployment.startWorker(), await deployment.startWorker()];
    const client = await connectClient(url);
    const docs = Array.from({ length: 8 }, (_, n) => `doc-${n}`);
    const emits = Promise.all(docs.map(async (doc) => emit(client, 1, 10, doc)));
    await eventually(() => docs.some((doc) => deployment.numbers(doc).length > 3));
    one.kill("SIGKILL");
    await emits;
    await eventually(() => docs.every((doc) => new Set(deployment.numbers(doc)).size === 10));
    for (const doc of docs) {
      expect(deployment.numbers(doc)).toEqual(deployment.numbers(doc).toSorted((a, b) => a - b));
      const fences = deployment.arrivals(doc).map(({ headers }) => headers["ce-fence"] ?? "");
      expect(fences).toEqual(fences.toSorted((a, b) => (a < b ? -1 : 1)));
    }
  });
});
