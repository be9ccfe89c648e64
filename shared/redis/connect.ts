/** The one place that knows the Redis client: how it is opened, whom it asks, how it is cut off. */
import { Socket } from "node:net";
import { type ConnectionOptions, TLSSocket } from "node:tls";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { crc16 } from "./slots.ts";
import type { Logger } from "../runtime/logging.ts";
import type { SettingValues } from "../runtime/settings.ts";
import { withDeadline } from "../runtime/timing.ts";
import {
  addressText,
  parseClusterNodes,
  parseNamedPrimary,
  parseSentinels,
  parseServerUrl,
  type ServerAddress,
} from "./address.ts";
import { defaultPrefix, nameRoot } from "./name-root.ts";
import { connectorTo, type PrimarySource } from "./primary-connector.ts";
import { refusalOf } from "./refusals.ts";
import { type redisSettings, type RedisTls, readTls } from "./settings.ts";

export type RedisClient = Redis | Cluster;
/** Addresses, as the settings write them. */
export type RedisTarget = (
  | { kind: "standalone"; url: string; readUrl?: string }
  | { kind: "sentinel"; sentinels: readonly string[]; master: string; readUrl?: string }
  | { kind: "cluster"; nodes: readonly string[] }
) & {
  /** Of the names of all keys and topics: two deployments share a Redis where theirs differ. */
  prefix?: string;
  tls?: RedisTls;
};

type SingleTarget = Exclude<RedisTarget, { kind: "cluster" }>;

/** A command or a connect that takes longer counts as failed. */
export const commandTimeoutMs = 3_000;
const connectTimeoutMs = 3_000;
/** A sentinel that hangs is passed over. */
const sentinelTimeoutMs = 1_000;
/** A server that hangs does not hold a start up for longer, twice at most. */
const checkTimeoutMs = 2_000;
/** A connection that is given up is not waited for. */
const disconnectTimeoutMs = 100;
/** A server that loads its data is asked again so often at least. */
const loadingRetryMs = 500;
/** How long an ordinary change of a cluster may go unnoticed; a redirection or a failure is followed up at once. */
const slotsRefreshMs = 5_000;
const clusterSlots = 16_384;

/** Undefined where no Redis is configured. @param settings that are valid (`redisFindings`). */
export function redisTarget(settings: SettingValues<typeof redisSettings>): RedisTarget | undefined {
  const { REDIS_URL, REDIS_CLUSTER, REDIS_SENTINELS, REDIS_SENTINEL_MASTER } = settings;
  const { REDIS_PREFIX: prefix, REDIS_READ_URL: readUrl } = settings;
  const all = { prefix, tls: readTls(settings) };
  if (REDIS_CLUSTER) return { kind: "cluster", nodes: REDIS_CLUSTER, ...all };
  const read = readUrl === undefined ? {} : { readUrl };
  if (REDIS_SENTINELS && REDIS_SENTINEL_MASTER) {
    return { kind: "sentinel", sentinels: REDIS_SENTINELS, master: REDIS_SENTINEL_MASTER, ...all, ...read };
  }
  return REDIS_URL === undefined ? undefined : { kind: "standalone", url: REDIS_URL, ...all, ...read };
}

/** What the names of all keys and topics begin with. */
export function rootOf(target: RedisTarget): string {
  return nameRoot(target.prefix ?? defaultPrefix, target.kind === "cluster" ? 0 : loginOf(target).database);
}

/** Of the primary. */
function loginOf(target: SingleTarget): Login {
  return target.kind === "sentinel" ? parseNamedPrimary(target.master) : parseServerUrl(target.url);
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
  maxLoadingRetryTime: loadingRetryMs,
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

type Login = Omit<ServerAddress, "host" | "port">;
interface LoginOptions {
  db?: number;
  username?: string;
  password?: string;
  tls?: ConnectionOptions;
}

/** Opens connections to the servers that hold the data. The caller connects ({@link connect}) and disconnects them. */
export class RedisServers {
  readonly #target: RedisTarget;
  readonly #source: PrimarySource;
  readonly #replicas: "accepted" | "refused";
  readonly #logger: Logger;

  /**
   * @param options.source where the primary is, which sentinels know; otherwise the target says it.
   * @param options.replicas whether one may be connected to.
   */
  constructor(options: {
    target: RedisTarget;
    source?: PrimarySource;
    replicas?: "accepted" | "refused";
    logger: Logger;
  }) {
    const { target } = options;
    this.#target = target;
    this.#source = options.source ?? { locate: () => parseServerUrl(target.kind === "standalone" ? target.url : "") };
    this.#replicas = options.replicas ?? "refused";
    this.#logger = options.logger;
  }

  /** For commands. */
  openClient(): RedisClient {
    const target = this.#target;
    return target.kind === "cluster" ? this.#openCluster(target) : this.#openSingle(target, single);
  }

  /** For subscriptions: one connection to one server, the commands' own, or its primary of that name in a cluster. */
  openSubscriber(commands: RedisClient, primary: string): Redis {
    if (this.#target.kind !== "cluster") return this.#openSingle(this.#target, subscriber);
    const known = clusterNode(commands, primary);
    const [login] = parseClusterNodes(this.#target.nodes);
    const options = { ...subscriber, readOnly: false };
    const at = primary.lastIndexOf(":");
    const address = { host: primary.slice(0, at), port: Number(primary.slice(at + 1)) };
    const opened = known?.duplicate(options) ?? new Redis({ ...options, ...this.#loginOptions(login), ...address });
    return logged(opened, this.#logger);
  }

  #openSingle(target: SingleTarget, options: typeof single): Redis {
    const loginOptions = this.#loginOptions(loginOf(target));
    const Connector = connectorTo(this.#source, { tls: loginOptions.tls, replicas: this.#replicas });
    return logged(new Redis({ ...options, ...loginOptions, Connector }), this.#logger);
  }

  #openCluster(target: RedisTarget & { kind: "cluster" }): Cluster {
    const nodes = parseClusterNodes(target.nodes);
    const [login] = nodes;
    const cluster = new Cluster(
      nodes.map(({ host, port }) => ({ host, port })),
      {
        lazyConnect: true,
        enableAutoPipelining: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: reconnectDelayMs,
        slotsRefreshInterval: slotsRefreshMs,
        // A command whose connection broke may have run: repeating it is the caller's decision.
        retryDelayOnFailover: 0,
        redisOptions: { ...common, ...this.#loginOptions(login) },
      },
    );
    return logged(cluster, this.#logger);
  }

  #loginOptions(login: Login | undefined): LoginOptions {
    return login ? loginOptions(login, this.#target.tls) : {};
  }
}

/** One for each sentinel. What is asked of them waits for a connection, and fails in time. The caller disconnects them. */
export function openSentinels(target: RedisTarget & { kind: "sentinel" }, logger: Logger): Redis[] {
  const options = {
    ...common,
    enableAutoPipelining: false,
    enableReadyCheck: false,
    connectTimeout: sentinelTimeoutMs,
    commandTimeout: sentinelTimeoutMs,
    retryStrategy: reconnectDelayMs,
  } satisfies RedisOptions;
  return parseSentinels(target.sentinels).map(({ host, port, ...login }) => {
    const client = new Redis({ ...options, ...loginOptions(login, target.tls), host, port });
    // Often, and for as long as one is down: whoever asks logs what changes.
    client.on("error", (error: Error) => logger.debug({ err: error }, "sentinel connection"));
    return client;
  });
}

/** For a few questions to one server. It is not connected to again, and fails soon. The caller disconnects. */
export function openForCheck({ host, port, ...login }: ServerAddress, tls: RedisTls | undefined): Redis {
  return new Redis({
    ...common,
    ...loginOptions(login, tls),
    host,
    port,
    enableAutoPipelining: false,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    connectTimeout: checkTimeoutMs,
    commandTimeout: checkTimeoutMs,
    retryStrategy: () => null,
  });
}

function loginOptions({ username, password, database, tls }: Login, certificates: RedisTls = {}): LoginOptions {
  return {
    db: database,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls && { tls: { ...certificates } }),
  };
}

function logged<Client extends RedisClient>(client: Client, logger: Logger): Client {
  client.on("error", (error: Error) => {
    logger.warn({ err: rootError(error) }, "redis connection");
    // The client would go on with what it was given, such as another database than the one it asked for.
    if (refusalOf(error)?.remedy === "reconnect") client.disconnect(true);
  });
  return client;
}

/** What keeps a cluster's client from its servers hangs on a general error. */
export function rootError(error: Error & { lastNodeError?: unknown }): Error {
  return error.lastNodeError instanceof Error ? error.lastNodeError : error;
}

/** Waits for the first connection, at most `waitMs`; the client goes on trying afterwards. */
export async function connect(client: RedisClient, waitMs: number): Promise<void> {
  const first = new Promise<void>((resolve) => client.once("ready", () => resolve()));
  // A failed attempt is reported by the error event, and repeated by the client itself.
  client.connect().catch(() => undefined);
  await withDeadline(first, waitMs, () => undefined);
}

/** Connects again at once, whatever the connection is busy with or waits for. */
export function reconnectNow(client: RedisClient): void {
  if (client instanceof Cluster || client.status === "wait" || client.status === "end") return;
  // As in connect.
  const reconnect = (): void => void client.connect().catch(() => undefined);
  if (client.status === "reconnecting") reconnect();
  else {
    client.once("reconnecting", reconnect);
    cutOff(client, "");
  }
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
  return client.nodes("all").find(({ options: { host = "", port = 0 } }) => addressText({ host, port }) === primary);
}
