/** A Redis Cluster of real processes. */
import type { RedisTarget } from "../../shared/redis/connect.ts";
import { eventually } from "./eventually.ts";
import { spawnProcess } from "./processes.ts";
import { asked } from "./redis-failover.ts";
import { type RedisServer, startRedis } from "./redis.ts";

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
export async function startRedisCluster({ replicas = 0 } = {}): Promise<RedisCluster> {
  const count = 3 * (1 + replicas);
  const servers = await Promise.all(Array.from({ length: count }, () => startRedis({ cluster: true })));
  const nodes = servers.map((server) => `127.0.0.1:${server.port}`);
  const create = spawnProcess("redis-cli", [
    ...["--cluster", "create", ...nodes, "--cluster-replicas", String(replicas), "--cluster-yes"],
  ]);
  await create.printed("[OK] All 16384 slots covered");
  await create.exited;
  const cluster: RedisCluster = {
    target: { kind: "cluster", nodes },
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
