/** Sentinel and Cluster deployments of Redis for schedules, and their failovers as faults. */
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "../../test/support/eventually.ts";
import { type RedisCluster, startRedisCluster } from "../../test/support/redis-cluster.ts";
import { asked, dieAhead, freezeReplicas } from "../../test/support/redis-failover.ts";
import { type RedisSentinel, startRedisSentinel } from "../../test/support/redis-sentinel.ts";
import type { Servers } from "./schedule-deployment.ts";
import { type Fault, lasts } from "./schedule-faults.ts";

export interface ScheduleRedis extends Servers {
  /** Of both programs. */
  readonly settings: Readonly<Record<string, string>>;
  readonly faults: readonly Fault[];
  /** Resolves once every server runs and every replica follows. */
  whole(): Promise<void>;
}

export async function startScheduleSentinel(): Promise<ScheduleRedis> {
  const sentinel = await startRedisSentinel({ replicas: 1 });
  return {
    settings: {
      REDIS_SENTINELS: sentinel.target.sentinels.join(","),
      REDIS_SENTINEL_MASTER: sentinel.target.master,
    },
    faults: failovers("Sentinel failover", sentinel, async (...how) => failSentinelOver(sentinel, ...how)),
    takeovers: () => sentinel.takeovers(),
    whole: async () => sentinel.whole(),
    stop: async () => sentinel.stop(),
  };
}

/** @param losing whether the replica is frozen before; `before` runs between that and the death of the primary. */
async function failSentinelOver(sentinel: RedisSentinel, losing: boolean, before: () => Promise<void>): Promise<void> {
  await sentinel.whole();
  const primary = await sentinel.primary();
  const replicas = sentinel.servers.filter((server) => server !== primary);
  if (losing) await freezeReplicas(primary, replicas);
  await before();
  await dieAhead(primary, replicas);
  await sentinel.promoted(primary);
  await sentinel.whole();
}

/** The target of its faults is `cluster`. */
export async function startScheduleCluster(): Promise<ScheduleRedis & { readonly cluster: RedisCluster }> {
  const cluster = await startRedisCluster({ replicas: 1 });
  const { nodes } = cluster.target as RedisTarget & { kind: "cluster" };
  const isWhole = async (): Promise<boolean> => {
    const shards = await cluster.shards();
    return shards.length === 3 && shards.every(({ replicas }) => replicas.length === 1);
  };
  const whole = async (): Promise<void> => eventually(isWhole, 120_000);
  return {
    cluster,
    settings: { REDIS_CLUSTER: nodes.join(",") },
    faults: [
      ...failovers("Cluster takeover", cluster, async (losing, before) => takeOver(cluster, whole, losing, before)),
      {
        kind: "Cluster primary killed, its replica elected",
        targets: [cluster],
        losesWrites: true,
        run: async (_, random) => {
          await whole();
          const { primary, replicas } = random.pick(await cluster.shards());
          await primary.kill();
          await eventually(async () => {
            const shards = await cluster.shards();
            return shards.some((shard) => replicas.includes(shard.primary));
          }, 120_000);
          await primary.restart();
          await whole();
        },
      },
    ],
    whole,
    stop: async () => cluster.stop(),
  };
}

/** All three shards, so that every slot is affected; one after the other, since elections need a majority of primaries. */
async function takeOver(
  cluster: RedisCluster,
  whole: () => Promise<void>,
  losing: boolean,
  before: () => Promise<void>,
): Promise<void> {
  await whole();
  for (const { primary, replicas } of await cluster.shards()) {
    if (losing) await freezeReplicas(primary, replicas);
    await before();
    await dieAhead(primary, replicas);
    const promoted = async (): Promise<boolean> => {
      const shards = await cluster.shards();
      return shards.length === 3 && shards.some((shard) => replicas.includes(shard.primary));
    };
    // TAKEOVER promotes the replica without the time that an election takes.
    for (const replica of replicas) await asked(replica, (client) => client.call("CLUSTER", "FAILOVER", "TAKEOVER"));
    await eventually(promoted, 120_000);
    await primary.restart();
    await whole();
  }
}

/** Redis replicates after it acknowledges: even a failover with healthy replicas may lose writes. */
function failovers(
  name: string,
  target: object,
  failOver: (losing: boolean, before: () => Promise<void>) => Promise<void>,
): Fault[] {
  return [
    {
      kind: name,
      targets: [target],
      losesWrites: true,
      run: async () => failOver(false, async () => undefined),
    },
    {
      kind: `${name} that loses writes`,
      targets: [target],
      losesWrites: true,
      // Shorter than the time after which sentinels and cluster nodes consider a frozen replica down.
      run: async (_, random, signal) => failOver(true, () => lasts(random.between(50, 600), signal)),
    },
  ];
}
