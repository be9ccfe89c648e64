/** The one place that knows the Redis client. */
import { Cluster, Redis, type RedisOptions } from "ioredis";
import type { Logger } from "../logging.ts";
import type { SettingValues } from "../settings.ts";
import type { redisSettings } from "./settings.ts";

export type RedisClient = Redis | Cluster;
export type RedisTarget =
  | { kind: "standalone"; url: string }
  | { kind: "sentinel"; sentinels: readonly string[]; master: string }
  | { kind: "cluster"; nodes: readonly string[] };

/** A command or a connect that takes longer counts as failed. */
const commandTimeoutMs = 3_000;
const connectTimeoutMs = 3_000;

/** Undefined where no Redis is configured. */
export function redisTarget(settings: SettingValues<typeof redisSettings>): RedisTarget | undefined {
  if (settings.REDIS_CLUSTER) return { kind: "cluster", nodes: settings.REDIS_CLUSTER };
  if (settings.REDIS_SENTINELS && settings.REDIS_SENTINEL_MASTER) {
    return { kind: "sentinel", sentinels: settings.REDIS_SENTINELS, master: settings.REDIS_SENTINEL_MASTER };
  }
  return settings.REDIS_URL ? { kind: "standalone", url: settings.REDIS_URL } : undefined;
}

/** Full jitter up to 2 s, so that a fleet does not come back as one. */
function reconnectDelayMs(attempt: number): number {
  return 50 + Math.random() * Math.min(2_000, 50 * 2 ** Math.min(attempt, 6));
}

/**
 * A client that fails instead of waiting: nothing is queued while Redis is away and nothing is sent again after it
 * returns, so no stale command runs and memory stays bounded. RESP2: replies and pub/sub have one shape everywhere.
 * The caller connects ({@link connect}) and disconnects.
 */
export function createRedisClient(target: RedisTarget, logger: Logger): RedisClient {
  // Commands of one tick share a round trip; subscriptions go their own way in a cluster.
  const pipelining = { enableAutoPipelining: true, autoPipeliningIgnoredCommands: ["ssubscribe", "sunsubscribe"] };
  const common = {
    protocol: 2,
    lazyConnect: true,
    ...pipelining,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: commandTimeoutMs,
    connectTimeout: connectTimeoutMs,
    connectionName: "tidegate",
  } satisfies RedisOptions;
  const single = { ...common, enableOfflineQueue: false, retryStrategy: reconnectDelayMs } satisfies RedisOptions;

  const client = ((): RedisClient => {
    switch (target.kind) {
      case "standalone":
        return new Redis(target.url, single);
      case "sentinel":
        return new Redis({
          ...single,
          sentinels: target.sentinels.map(hostAndPort),
          name: target.master,
          sentinelRetryStrategy: reconnectDelayMs,
          failoverDetector: true,
        });
      case "cluster":
        return new Cluster(target.nodes.map(hostAndPort), {
          lazyConnect: true,
          ...pipelining,
          enableOfflineQueue: false,
          shardedSubscribers: true,
          clusterRetryStrategy: reconnectDelayMs,
          // A command whose connection broke may have run: repeating it is the caller's decision.
          retryDelayOnFailover: 0,
          redisOptions: common,
        });
    }
  })();
  client.on("error", (error: Error) => logger.warn({ err: error }, "redis connection"));
  return client;
}

/** Waits for the first connection, at most `waitMs`; the client goes on trying afterwards. */
export async function connect(client: RedisClient, waitMs: number): Promise<void> {
  const first = new Promise<void>((resolve) => client.once("ready", () => resolve()));
  // A failed attempt is reported by the error event, and repeated by the client itself.
  client.connect().catch(() => undefined);
  const { promise: waited, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, waitMs);
  await Promise.race([first, waited]);
  clearTimeout(timer);
}

function hostAndPort(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}
