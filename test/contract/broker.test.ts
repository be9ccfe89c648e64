import { afterAll, beforeAll } from "vitest";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startValkey } from "../support/valkey.ts";
import { brokerSuite } from "./broker-suite.ts";

let redis: RedisServer;
let valkey: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
let twoCells: TwoCells;

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

const opened: RedisConnections[] = [];

async function brokerOn(target: RedisTarget): Promise<ChannelBroker> {
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  opened.push(connections);
  return new RedisBroker({ cells: new Cells(connections), logger: quietLogger });
}
async function pairOn(target: RedisTarget): Promise<[ChannelBroker, ChannelBroker]> {
  return [await brokerOn(target), await brokerOn(target)];
}

brokerSuite("memory", async () => {
  const broker = new MemoryBroker(quietErrors);
  return [broker, broker];
});
brokerSuite("Redis", async () => pairOn({ kind: "standalone", url: redis.url }));
brokerSuite("Redis Cluster", async () => pairOn(cluster.target));
brokerSuite("Valkey", async () => pairOn({ kind: "standalone", url: valkey.url }));
brokerSuite("two cells", async () => {
  const broker = async (): Promise<ChannelBroker> => {
    const { cells } = await twoCells.open();
    if (!cells) throw new Error("there are no cells");
    return new RedisBroker({ cells, logger: quietLogger });
  };
  return [await broker(), await broker()];
});
