import { afterAll, beforeAll } from "vitest";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { RedisChangeLog } from "../../shared/changes/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startValkey } from "../support/valkey.ts";
import { changeLogSuite, type LoggingProgram, shortLeaseMs } from "./change-log-suite.ts";

let redis: RedisServer;
let valkey: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
const opened: RedisConnections[] = [];

beforeAll(async () => {
  [redis, valkey, cluster] = await Promise.all([startRedis(), startValkey(), startRedisCluster()]);
});
afterAll(async () => {
  await Promise.all(opened.map((connections) => connections.stop()));
  await Promise.all([redis.stop(), valkey.stop(), cluster.stop()]);
});

async function programOn(target: RedisTarget): Promise<LoggingProgram> {
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  opened.push(connections);
  const cells = new Cells(connections);
  const log = new RedisChangeLog(cells, { leaseMs: shortLeaseMs });
  return { broker: new RedisBroker({ cells, logger: quietLogger }), log };
}

/** Two programs, for all tests of a suite. */
function once(create: () => Promise<LoggingProgram>): () => Promise<[LoggingProgram, LoggingProgram]> {
  let programs: Promise<[LoggingProgram, LoggingProgram]> | undefined;
  return () => (programs ??= Promise.all([create(), create()]));
}

const memoryLog = new MemoryChangeLog({ leaseMs: shortLeaseMs });
const inMemory = { broker: new MemoryBroker(quietErrors, memoryLog), log: memoryLog };
changeLogSuite("memory", async () => [inMemory, inMemory]);
changeLogSuite(
  "Redis",
  once(async () => programOn({ kind: "standalone", url: redis.url })),
);
changeLogSuite(
  "Redis Cluster",
  once(async () => programOn(cluster.target)),
);
changeLogSuite(
  "Valkey",
  once(async () => programOn({ kind: "standalone", url: valkey.url })),
);
