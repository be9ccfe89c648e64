/** A dispatcher on a Redis that restarts without its data. */
import { expect, test } from "vitest";
import { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import { Workers } from "../../private-api/dispatch/workers.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { Circuit } from "../../shared/services/circuit.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedis } from "../support/redis.ts";

test("QFAIL-6: where Redis restarts empty, while items are in flight too, new items are delivered in order", async () => {
  const redis = await startRedis();
  const target = { kind: "standalone", url: redis.url } as const;
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  const store = new RedisQueueStore(new Cells(connections));
  const circuit = new Circuit();
  const classes = new Map([["messages", { share: 1 }]]);
  const arrived: string[] = [];
  const held = Promise.withResolvers<void>();
  const dispatcher = new Dispatcher({
    store,
    workers: new Workers({ total: 16, classes: () => classes }),
    service: () => ({ maxInFlight: 16, maxBatch: 1, circuit }),
    policy: () => ({ attempts: 3, minMs: 1, maxMs: 5, onFailure: "skip", batch: 1 }),
    send: async (_service, { body }) => {
      arrived.push(body);
      if (body === "1") await held.promise;
      return { kind: "answered", status: 204, body: Buffer.alloc(0) };
    },
    onOutcome: () => undefined,
    onFirstAttempt: () => undefined,
    stopMs: 5_000,
    errors: quietErrors,
    logger: quietLogger,
  });
  const enqueue = async (n: number): Promise<void> => {
    const head = formatHead({
      ...{ id: String(n), event: "edit", source: "/test", path: "/", at: Date.now() },
      ...{ traceparent: "00", user: "u", sessionId: "s", claims: {} },
    });
    const queue = { service: "documents", tenant: "", key: "k" };
    await store.enqueue({ queue, class: "messages", head, data: String(n) });
  };
  try {
    await dispatcher.start();
    await enqueue(1);
    await enqueue(2);
    await eventually(() => arrived.length === 1);
    await redis.kill();
    await redis.restart({ empty: true });
    held.resolve();
    // Refused until the connection is back.
    await eventually(async () =>
      enqueue(3).then(
        () => true,
        () => false,
      ),
    );
    await enqueue(4);
    await eventually(() => arrived.includes("4"), 20_000);
    // An enqueue with an unknown outcome may have been stored.
    expect([...new Set(arrived)]).toEqual(["1", "3", "4"]);
  } finally {
    await dispatcher.stop();
    await connections.stop();
    await redis.stop();
  }
}, 60_000);
