import { afterAll, beforeAll } from "vitest";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { quietErrors, quietLogger } from "./logger.ts";
import { type RedisServer, startRedis } from "./redis.ts";

export interface ConnectedRedis {
  redis: RedisServer;
  connections: RedisConnections;
}

/** Starts a Redis and connections to it before the tests of a file, and stops both after them. Empty until then. */
export function connectedRedis(): ConnectedRedis {
  const connected = {} as ConnectedRedis;
  beforeAll(async () => {
    const redis = await startRedis();
    const target = { kind: "standalone", url: redis.url } as const;
    const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
    Object.assign(connected, { redis, connections } satisfies ConnectedRedis);
    await connections.start();
  });
  afterAll(async () => {
    await connected.connections.stop();
    await connected.redis.stop();
  });
  return connected;
}
