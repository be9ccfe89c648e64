/** A Redis Cluster of real processes. */
import { crc16 } from "../../shared/redis/slots.ts";
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
  });
  // A server takes commands two seconds after its start at the earliest, each by its own clock.
  await eventually(async () => {
    const states = await Promise.all(servers.map((server) => command(server, "CLUSTER", "INFO")));
    return states.every((state) => String(state).includes("cluster_state:ok"));
  });
  return cluster;
}

/** The hash slot of keys with this hash tag. */
export function hashSlotOf(tag: string): number {
  return crc16(tag) % 16_384;
}

/** A hash slot on its way to another primary: its keys are on two servers. */
export interface SlotMove {
  readonly to: RedisServer;
  /** Keys that have not moved. */
  keys(count: number): Promise<string[]>;
  moveKeys(keys: readonly string[]): Promise<void>;
  /** All keys have moved. */
  end(): Promise<void>;
}

export async function beginSlotMove(cluster: RedisCluster, slot: number): Promise<SlotMove> {
  const { owner, other } = await ownerOf(cluster, slot);
  const [from, to] = [owner.primary, other.primary];
  const [fromId, toId] = [await nodeId(from), await nodeId(to)];
  await command(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromId);
  await command(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toId);
  return {
    to,
    keys: async (count) => (await command(from, "CLUSTER", "GETKEYSINSLOT", slot, count)) as string[],
    moveKeys: async (keys) => {
      if (keys.length > 0) await command(from, "MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, "KEYS", ...keys);
    },
    end: async () => {
      const primaries = (await cluster.shards()).map(({ primary }) => primary);
      for (const server of [to, from, ...primaries.filter((primary) => primary !== to && primary !== from)]) {
        await command(server, "CLUSTER", "SETSLOT", slot, "NODE", toId);
      }
    },
  };
}

/** The shard that owns a hash slot, and another one. */
export async function ownerOf(cluster: RedisCluster, slot: number): Promise<{ owner: Shard; other: Shard }> {
  const shards = await cluster.shards();
  for (const owner of shards) {
    const nodes = (await command(owner.primary, "CLUSTER", "SHARDS")) as unknown[][];
    const own = await nodeId(owner.primary);
    const ranges = (nodes.find((entry) => JSON.stringify(entry).includes(own))?.[1] ?? []) as number[];
    const other = shards.find((candidate) => candidate !== owner);
    for (let at = 0; at < ranges.length; at += 2) {
      if (other && slot >= (ranges[at] ?? 0) && slot <= (ranges[at + 1] ?? -1)) return { owner, other };
    }
  }
  throw new Error(`no primary owns the hash slot ${slot}`);
}

export async function command(server: RedisServer, ...words: [string, ...(string | number)[]]): Promise<unknown> {
  const [name, ...rest] = words;
  return asked(server, (client) => client.call(name, ...rest));
}

async function nodeId(server: RedisServer): Promise<string> {
  return asked(server, (client) => client.cluster("MYID"));
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
