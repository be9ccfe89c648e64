/** A dispatcher on a Redis that restarts without its data, and one that finds what others have left behind. */
import { expect, test } from "vitest";
import type { QueueName } from "../../shared/queues/contract.ts";
import { slotOfQueue, slotPrefix } from "../../shared/queues/keys.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { dispatcherOf, numberedItem } from "../support/dispatcher.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedis } from "../support/redis.ts";

test("QFAIL-1: a dispatcher finds all that others have left in one slot when it looks for the first time", async () => {
  const redis = await startRedis();
  const target = { kind: "standalone", url: redis.url } as const;
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  const cells = new Cells(connections);
  const store = new RedisQueueStore(cells);
  const queues = queuesOfSlot(7, 250);
  for (const [n, queue] of queues.entries()) await store.enqueue(numberedItem(queue, n));
  // Their leases end at once.
  const gone = new RedisQueueStore(cells, { leaseMs: 0 });
  const lane = { class: "messages", service: "documents", attempt: "first", tenant: "", slot: 7 } as const;
  const claims = Array.from({ length: 3 }, () => ({ ...lane, maxQueues: 100, maxItems: 1 }));
  const replies = await Promise.all(gone.claim(claims));
  expect(replies.flatMap(({ claimed }) => claimed)).toHaveLength(250);
  const arrived: string[] = [];
  const dispatcher = dispatcherOf(store, ({ body }) => void arrived.push(body));
  try {
    await dispatcher.start();
    const leases = await connections.run<number>("zcard", `${slotPrefix(connections.root, 7)}leases`);
    // The rest are its own.
    expect(leases).toBeLessThanOrEqual(16);
    await eventually(() => arrived.length === 250);
  } finally {
    await dispatcher.stop();
    await connections.stop();
    await redis.stop();
  }
});

function queuesOfSlot(slot: number, count: number): QueueName[] {
  const queues: QueueName[] = [];
  for (let n = 0; queues.length < count; n++) {
    const queue = { service: "documents", tenant: "", key: String(n) };
    if (slotOfQueue(queue) === slot) queues.push(queue);
  }
  return queues;
}

test("QFAIL-6: where Redis restarts empty, while items are in flight too, new items are delivered in order", async () => {
  const redis = await startRedis();
  const target = { kind: "standalone", url: redis.url } as const;
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  const store = new RedisQueueStore(new Cells(connections));
  const arrived: string[] = [];
  const held = Promise.withResolvers<void>();
  const dispatcher = dispatcherOf(store, async ({ body }) => {
    arrived.push(body);
    if (body === "1") await held.promise;
  });
  const queue = { service: "documents", tenant: "", key: "k" };
  const enqueue = async (n: number): Promise<unknown> => store.enqueue(numberedItem(queue, n));
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
    await eventually(() => arrived.includes("4"));
    // An enqueue with an unknown outcome may have been stored.
    expect([...new Set(arrived)]).toEqual(["1", "3", "4"]);
  } finally {
    await dispatcher.stop();
    await connections.stop();
    await redis.stop();
  }
});
