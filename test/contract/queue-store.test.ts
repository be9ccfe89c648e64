import { afterAll, beforeAll } from "vitest";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startValkey } from "../support/valkey.ts";
import { type Queues, queueStoreSuite } from "./queue-store-suite.ts";

let redis: RedisServer;
let valkey: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
let twoCells: TwoCells;
let moving: Promise<unknown> | undefined;
const opened: RedisConnections[] = [];
/** A busy machine must not store an item without its claim. */
const claimWaitMs = 60_000;

beforeAll(async () => {
  [redis, valkey, cluster, twoCells] = await Promise.all([
    startRedis(),
    startValkey(),
    startRedisCluster(),
    startTwoCells("100-255"),
  ]);
});
afterAll(async () => {
  await Promise.all(opened.map((connections) => connections.stop()));
  await Promise.all([redis.stop(), valkey.stop(), cluster.stop(), twoCells.stop()]);
});

async function storeOn(target: RedisTarget): Promise<Queues> {
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  opened.push(connections);
  return new RedisQueueStore(new Cells(connections), { claimWaitMs });
}

async function storeOnCells(): Promise<Queues> {
  const { cells } = await twoCells.open();
  if (!cells) throw new Error("there are no cells");
  return new RedisQueueStore(cells, { claimWaitMs });
}

const inMemory = new MemoryQueueStore();
queueStoreSuite("memory", async () => [inMemory, inMemory]);
queueStoreSuite("Redis", async () => [
  await storeOn({ kind: "standalone", url: redis.url }),
  await storeOn({ kind: "standalone", url: redis.url }),
]);
queueStoreSuite("Redis Cluster", async () => [await storeOn(cluster.target), await storeOn(cluster.target)]);
queueStoreSuite("Valkey", async () => [
  await storeOn({ kind: "standalone", url: valkey.url }),
  await storeOn({ kind: "standalone", url: valkey.url }),
]);
queueStoreSuite("two cells, while slots move", async () => {
  // Until the cells stop.
  moving ??= twoCells.keepMoving();
  await moving;
  return [await storeOnCells(), await storeOnCells()];
});
