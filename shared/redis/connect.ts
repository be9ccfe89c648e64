/** The one place that knows the Redis client: how it is opened, whom it asks, how it is cut off. */
import { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { crc16 } from "../channels/slots.ts";
import type { Logger } from "../logging.ts";
import type { SettingValues } from "../settings.ts";
import type { redisSettings } from "./settings.ts";

export type RedisClient = Redis | Cluster;
export type RedisTarget = (
  | { kind: "standalone"; url: string; readUrl?: string }
  | { kind: "sentinel"; sentinels: readonly string[]; master: string; readUrl?: string }
  | { kind: "cluster"; nodes: readonly string[] }
) & {
  /** Of the names of all keys and topics: two deployments share a Redis where theirs differ. */
  prefix?: string;
};

/** A command or a connect that takes longer counts as failed. */
export const commandTimeoutMs = 3_000;
const connectTimeoutMs = 3_000;
/** A sentinel that hangs is passed over. */
const sentinelTimeoutMs = 1_000;
/** A connection that is given up is not waited for. */
const disconnectTimeoutMs = 100;
/** How long an ordinary change of a cluster may go unnoticed; a redirection or a failure is followed up at once. */
const slotsRefreshMs = 5_000;
const clusterSlots = 16_384;

/** Undefined where no Redis is configured. */
export function redisTarget(settings: SettingValues<typeof redisSettings>): RedisTarget | undefined {
  const { REDIS_PREFIX: prefix, REDIS_CLUSTER: nodes, REDIS_READ_URL: readUrl } = settings;
  if (nodes) return { kind: "cluster", nodes, prefix };
  const common = { prefix, ...(readUrl !== undefined && { readUrl }) };
  if (settings.REDIS_SENTINELS && settings.REDIS_SENTINEL_MASTER) {
    return { kind: "sentinel", sentinels: settings.REDIS_SENTINELS, master: settings.REDIS_SENTINEL_MASTER, ...common };
  }
  return settings.REDIS_URL ? { kind: "standalone", url: settings.REDIS_URL, ...common } : undefined;
}

/** Full jitter up to 2 s, so that a fleet does not come back as one. */
function reconnectDelayMs(attempt: number): number {
  return 50 + Math.random() * Math.min(2_000, 50 * 2 ** Math.min(attempt, 6));
}

/**
 * A client that fails instead of waiting: nothing is queued while Redis is away and nothing is sent again after it
 * returns, so no stale command runs. RESP2: replies and pub/sub have one shape everywhere.
 */
const common = {
  protocol: 2,
  lazyConnect: true,
  // Commands of one tick share a round trip.
  enableAutoPipelining: true as boolean,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  commandTimeout: commandTimeoutMs,
  connectTimeout: connectTimeoutMs,
  disconnectTimeout: disconnectTimeoutMs,
  // Nothing but the question whether it is ready delays a connection: a server that hangs fails it in one timeout.
  disableClientInfo: true,
} satisfies RedisOptions;
const single = {
  ...common,
  connectionName: "tidegate",
  enableOfflineQueue: false,
  retryStrategy: reconnectDelayMs,
} satisfies RedisOptions;

/** Their replies come one for each topic. */
const subscriber = { ...single, enableAutoPipelining: false };

function openSingle(target: Exclude<RedisTarget, { kind: "cluster" }>, options: typeof subscriber = single): Redis {
  if (target.kind === "standalone") return new Redis(target.url, options);
  return new Redis({
    ...options,
    sentinels: target.sentinels.map(hostAndPort),
    name: target.master,
    sentinelCommandTimeout: sentinelTimeoutMs,
    sentinelRetryStrategy: reconnectDelayMs,
    failoverDetector: true,
    // A primary that was demoted while connected: the sentinels are asked again.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
  });
}

function openCluster(nodes: readonly string[]): Cluster {
  return new Cluster(nodes.map(hostAndPort), {
    lazyConnect: true,
    enableAutoPipelining: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: reconnectDelayMs,
    slotsRefreshInterval: slotsRefreshMs,
    // A command whose connection broke may have run: repeating it is the caller's decision.
    retryDelayOnFailover: 0,
    redisOptions: common,
  });
}

/** For commands. The caller connects ({@link connect}) and disconnects. */
export function createRedisClient(target: RedisTarget, logger: Logger): RedisClient {
  return logged(target.kind === "cluster" ? openCluster(target.nodes) : openSingle(target), logger);
}

/** For subscriptions: one connection to one server, the commands' own, or its primary of that name in a cluster. */
export function createSubscriber(target: RedisTarget, commands: RedisClient, primary: string, logger: Logger): Redis {
  if (target.kind !== "cluster") return logged(openSingle(target, subscriber), logger);
  const known = clusterNode(commands, primary);
  const options = { ...subscriber, readOnly: false };
  return logged(known?.duplicate(options) ?? new Redis({ ...hostAndPort(primary), ...options }), logger);
}

function logged<Client extends RedisClient>(client: Client, logger: Logger): Client {
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

/** A client that hears of a failover while it connects gives up for good: it begins anew. */
export function beginAnew(client: RedisClient): void {
  if (client.status !== "end") return;
  // As in connect.
  client.connect().catch(() => undefined);
}

/** Which database of the server the client's commands concern. A cluster has one. */
export function databaseOf(client: RedisClient): number {
  if (!(client instanceof Redis)) return 0;
  // What comes from a URL is text, whatever its type says.
  const database = client.options.db as number | string | undefined;
  return Number(database ?? 0);
}

/** The primary that owns a key or topic: `host:port` in a cluster, `""` where there is one only or none is known. */
export function primaryOf(client: RedisClient, key: string): string {
  if (client instanceof Redis) return "";
  return client.slots[crc16(hashTag(key)) % clusterSlots]?.[0] ?? "";
}

/** What decides where a key or topic lives: the part in braces, else all of it. */
export function hashTag(key: string): string {
  return /\{([^}]+)\}/.exec(key)?.[1] ?? key;
}

/** Sent, and not answered in time. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Command timed out";
}

/** Asks the cluster who owns what, e.g. after a redirection. */
export function refreshSlots(client: RedisClient): void {
  if (client instanceof Cluster && client.status === "ready") client.refreshSlotsCache();
}

/** Cuts a connection that is not answered, and with it what waits in its socket; the client opens another. */
export function cutOff(client: RedisClient, primary: string): void {
  // Undefined until the client first connects, whatever its type says.
  const stream: Redis["stream"] | undefined = clusterNode(client, primary)?.stream;
  if (stream instanceof Socket && !(stream instanceof TLSSocket)) stream.resetAndDestroy();
  else stream?.destroy();
  refreshSlots(client);
}

function clusterNode(client: RedisClient, primary: string): Redis | undefined {
  if (client instanceof Redis) return client;
  return client.nodes("all").find(({ options }) => `${options.host}:${options.port}` === primary);
}

function hostAndPort(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}
