/** A Redis Cluster of real processes. */
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "./eventually.ts";
import { spawnProcess } from "./processes.ts";
import { asked } from "./redis-failover.ts";
import { type RedisServer, type Secure, startRedis } from "./redis.ts";

export interface RedisCluster {
  readonly target: RedisTarget;
  readonly servers: readonly RedisServer[];
  /** As they are now, each with the replicas that follow it; servers that do not answer are left out. */
  shards(): Promise<Shard[]>;
  stop(): Promise<void>;
}

export interface Shard {
  primary: RedisServer;
  replicas: RedisServer[];
}

/** Three primaries that own all slots between them, each with that many replicas. */
export async function startRedisCluster({
  replicas = 0,
  host = "127.0.0.1",
  secure,
}: { replicas?: number; host?: string; secure?: Secure } = {}): Promise<RedisCluster> {
  const count = 3 * (1 + replicas);
  const options = { cluster: true, host, ...(secure && { secure }) };
  const servers = await Promise.all(Array.from({ length: count }, () => startRedis(options)));
  const addresses = servers.map((server) => `${host}:${server.port}`);
  const create = spawnProcess("redis-cli", [
    ...["--cluster", "create", ...addresses, "--cluster-replicas", String(replicas), "--cluster-yes"],
    ...(secure ? loginArguments(secure) : []),
  ]);
  await create.printed("[OK] All 16384 slots covered");
  await create.exited;
  const cluster: RedisCluster = {
    target: {
      kind: "cluster",
      nodes: secure ? servers.map(({ url }) => url) : servers.map(({ url }) => url.replace("redis://", "")),
      ...(secure && { tls: secure.certificates.pem }),
    },
    servers,
    shards: () => shardsOf(servers),
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
  await eventually(async () => {
    const shards = await cluster.shards();
    const followed = await Promise.all(shards.map(({ primary }) => onlineReplicas(primary)));
    return shards.every((shard, at) => shard.replicas.length === replicas && followed[at] === replicas);
  }, 20_000);
  return cluster;
}

/** Those that a primary sends its writes to: it holds them back until a replica that calls itself connected has acknowledged, a second later. */
async function onlineReplicas(primary: RedisServer): Promise<number> {
  const replication = await asked(primary, (client) => client.info("replication"));
  return replication.match(/state=online,offset=[1-9]/g)?.length ?? 0;
}

async function shardsOf(servers: readonly RedisServer[]): Promise<Shard[]> {
  const roles = await Promise.all(
    servers.map(async (server) => {
      // ROLE: master, …, or slave with its primary's host and port and the state of its link.
      const role = await asked(server, (client) => client.role()).catch(() => undefined);
      const copies = role?.[0] === "slave" && role[3] === "connected";
      return { server, isPrimary: role?.[0] === "master", primaryPort: copies ? Number(role[2]) : undefined };
    }),
  );
  return roles
    .filter(({ isPrimary }) => isPrimary)
    .map(({ server }) => ({
      primary: server,
      replicas: roles.filter(({ primaryPort }) => primaryPort === server.port).map((replica) => replica.server),
    }));
}

function loginArguments({ certificates: { files }, user, password }: Secure): string[] {
  const tls = ["--tls", "--cacert", files.ca, "--cert", files.cert, "--key", files.key];
  return [...tls, "--user", user, "--pass", password];
}
