/** News of queues and of the change log, for a program that begins to listen while Redis cannot be reached. */
import { afterEach, test } from "vitest";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { startTwoCells } from "../support/cells.ts";
import { numberedItem } from "../support/dispatcher.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { startRedis } from "../support/redis.ts";

const begun: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

type Target = Parameters<typeof createStores>[0];

async function standalone(): Promise<Target> {
  const redis = await startRedis();
  begun.push(redis);
  return { kind: "standalone", url: redis.url };
}

async function cluster(): Promise<Target> {
  const redis = await startRedisCluster();
  begun.push(redis);
  return redis.target;
}

async function cells(): Promise<Target> {
  const both = await startTwoCells();
  begun.push(both);
  return both.targets;
}

/** Of several hash slots. */
const keys = Array.from({ length: 12 }, (_, n) => `k${n}`);
const retention = { historySize: 0, historySeconds: 0 };
const changes = { maxBytes: 1e6, maxSeconds: 60, unclaimedSeconds: 60 };

test.each([
  ["Redis", standalone],
  ["a cluster", cluster],
  ["a cell", cells],
])(
  "CLU-6: a program that begins to listen while %s is away hears of changes once it is back",
  async (_what, startTarget) => {
    const target = await startTarget();
    const listening: Stores = createStores(target, quietLogger);
    const queues = new Set<string | undefined>();
    const slots = new Set<number>();
    listening.queues.listen({ onReady: ({ tenant }) => queues.add(tenant.split("-")[0]), onRestored: () => undefined });
    // Nothing is connected yet: for the client that is the same as a Redis that is away.
    await listening.changeLog.listen({ onAppended: (slot) => slots.add(slot), onRestored: () => undefined });
    await listening.start();
    const writing: Stores = createStores(target, quietLogger);
    await writing.start();
    begun.push(listening, writing);
    let n = 0;
    await eventually(async () => {
      n++;
      for (const key of keys) {
        await writing.queues.enqueue(numberedItem({ service: "docs", tenant: `${key}-${n}`, key }, n));
        await writing.broker.publish({ channel: `board:${key}`, event: "moved", data: "1", retention, changes });
      }
      return queues.size === keys.length && slots.size === keys.length;
    });
  },
);
