/** A dispatcher on a Redis that restarts without its data. */
import { expect, test } from "vitest";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { dispatcherOf, numberedItem } from "../support/dispatcher.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedis } from "../support/redis.ts";

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
