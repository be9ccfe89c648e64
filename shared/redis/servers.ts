/** Opens Redis clients: for commands, subscriptions, sentinels and the check before a start. */
import type { ConnectionOptions } from "node:tls";
import { type Cluster, Redis, type RedisOptions } from "ioredis";
import type { Logger } from "../runtime/logging.ts";
import { parseClusterNodes, parseSentinels, parseServerUrl, type ServerAddress } from "./address.ts";
import { ClusterClient } from "./cluster-client.ts";
import { clusterNode, type RedisClient, rootError } from "./client.ts";
import { connectorTo, type PrimarySource } from "./primary-connector.ts";
import { refusalOf } from "./refusals.ts";
import { batchScripts, defineScripts } from "./scripts.ts";
import type { RedisTls } from "./settings.ts";
import { SingleClient } from "./single-client.ts";
import { type Login, loginOf, type RedisTarget, type SingleTarget } from "./target.ts";

/** A command or a connect that takes longer counts as failed. */
export const commandTimeoutMs = 3_000;
const connectTimeoutMs = 3_000;
/** Short, so that the other sentinels are asked instead of one that hangs. */
const sentinelTimeoutMs = 1_000;
/** A server that hangs delays a start by at most twice this. */
const checkTimeoutMs = 2_000;
/** Grace for a connection that is being closed. */
const disconnectTimeoutMs = 100;
/** Longest pause between two looks at a server that loads its data. */
const loadingRetryMs = 500;
/** Longest time for an ordinary change of a cluster to go unnoticed; a redirection or a failure refreshes at once. */
const slotsRefreshMs = 5_000;

/** A reader of the change log sends it alone in each of its steps, and waits for it: behind the pipeline under way it would wait for that one too. */
const neverPipelined = ["hget"];

/** Full jitter up to 2 s, so that the processes of a fleet do not reconnect together. */
function reconnectDelayMs(attempt: number): number {
  return 50 + Math.random() * Math.min(2_000, 50 * 2 ** Math.min(attempt, 6));
}

/**
 * The client fails instead of waiting: it queues nothing while Redis is away and resends nothing afterwards, so no stale
 * command runs. RESP2, because there replies and pub/sub have one shape everywhere.
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
  // A new connection sends only the ready check: a server that hangs fails it within one timeout.
  disableClientInfo: true,
} satisfies RedisOptions;
const single = {
  ...common,
  connectionName: "tidegate",
  enableOfflineQueue: false,
  retryStrategy: reconnectDelayMs,
} satisfies RedisOptions;

/** A pipeline does not fit: SSUBSCRIBE has one reply for each topic. */
const subscriber = { ...single, enableAutoPipelining: false };

interface LoginOptions {
  db?: number;
  username?: string;
  password?: string;
  tls?: ConnectionOptions;
}

interface RedisServersOptions {
  target: RedisTarget;
  /** Locates the primary, for targets with sentinels. */
  source?: PrimarySource;
  /** Whether a client may stay connected to a replica. */
  replicas?: "accepted" | "refused";
  logger: Logger;
}

/** Opens connections to the servers that hold the data. The caller connects and disconnects them. */
export class RedisServers {
  readonly #options: RedisServersOptions;
  /** Failures of the present outage, by connection. */
  readonly #failures = new Map<string, number>();

  constructor(options: RedisServersOptions) {
    this.#options = options;
  }

  /** For commands; knows every declared script. */
  openClient(): RedisClient {
    const { target } = this.#options;
    const commands = { ...single, autoPipeliningIgnoredCommands: [...batchScripts(), ...neverPipelined] };
    const client =
      target.kind === "cluster" ? this.#openCluster(target) : this.#openSingle(SingleClient, target, commands);
    defineScripts(client);
    return this.#logged(client, "commands");
  }

  /** For subscriptions: one connection to the server that `commands` uses, or in a cluster to the primary of that name. */
  openSubscriber(commands: RedisClient, primary: string): Redis {
    const { target } = this.#options;
    if (target.kind !== "cluster") return this.#logged(this.#openSingle(Redis, target, subscriber), "subscriptions");
    const known = clusterNode(commands, primary);
    const [login] = parseClusterNodes(target.nodes);
    const options = { ...subscriber, readOnly: false };
    const at = primary.lastIndexOf(":");
    const address = { host: primary.slice(0, at), port: Number(primary.slice(at + 1)) };
    const opened = known?.duplicate(options) ?? new Redis({ ...options, ...this.#loginOptions(login), ...address });
    return this.#logged(opened, `subscriptions of ${primary}`);
  }

  #openSingle(Client: typeof Redis, target: SingleTarget, options: typeof single): Redis {
    const loginOptions = this.#loginOptions(loginOf(target));
    const { source, replicas = "refused" } = this.#options;
    const primary = source ?? { locate: () => parseServerUrl(target.kind === "standalone" ? target.url : "") };
    const Connector = connectorTo(primary, { tls: loginOptions.tls, replicas });
    return new Client({ ...options, ...loginOptions, Connector });
  }

  #openCluster(target: RedisTarget & { kind: "cluster" }): Cluster {
    const nodes = parseClusterNodes(target.nodes);
    const [login] = nodes;
    return new ClusterClient(
      nodes.map(({ host, port }) => ({ host, port })),
      {
        lazyConnect: true,
        enableAutoPipelining: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: reconnectDelayMs,
        slotsRefreshInterval: slotsRefreshMs,
        // A command whose connection broke may have run: the caller decides whether to repeat it.
        retryDelayOnFailover: 0,
        // Sixteen retries, each behind a look for the slots at every node, would hold all that is sent to a server for more than a minute.
        retryDelayOnClusterDown: 0,
        redisOptions: { ...common, ...this.#loginOptions(login) },
      },
    );
  }

  #loginOptions(login: Login | undefined): LoginOptions {
    return login ? loginOptions(login, this.#options.target.tls) : {};
  }

  /** One warning for each outage of a connection, also where the connection is opened again meanwhile. */
  #logged<Client extends RedisClient>(client: Client, connection: string): Client {
    const { logger } = this.#options;
    client.on("error", (error: Error & { code?: string }) => {
      const { message, code } = rootError(error) as typeof error;
      const failures = this.#failures.get(connection) ?? 0;
      if (failures === 0) logger.warn({ connection, reason: message || code }, "redis connection failed, retrying");
      this.#failures.set(connection, failures + 1);
      // Otherwise the client would continue on a connection that refused it, e.g. in another database than it asked for.
      if (refusalOf(error)?.remedy === "reconnect") client.disconnect(true);
    });
    client.on("ready", () => {
      const failures = this.#failures.get(connection);
      if (failures !== undefined) logger.info({ connection, failures }, "redis connection works again");
      this.#failures.delete(connection);
    });
    return client;
  }
}

/** One client per sentinel. Commands wait for a connection and fail in time. The caller disconnects the clients. */
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
    // Frequent while a sentinel is down; the caller logs changes.
    client.on("error", (error: Error) => logger.debug({ err: error }, "sentinel connection"));
    return client;
  });
}

/** For a few commands to one server: never reconnects, fails fast. The caller disconnects. */
export function openForCheck({ host, port, ...login }: ServerAddress, tls: RedisTls | undefined): Redis {
  const client = new Redis({
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
  defineScripts(client);
  return client;
}

function loginOptions({ username, password, database, tls }: Login, certificates: RedisTls = {}): LoginOptions {
  return {
    db: database,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls && { tls: { ...certificates } }),
  };
}
