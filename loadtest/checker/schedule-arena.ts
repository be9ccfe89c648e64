/** A deployment, its Redis, and the faults of both. */
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "../../test/support/eventually.ts";
import { startRedisCluster } from "../../test/support/redis-cluster.ts";
import { asked, dieAhead, freezeReplicas } from "../../test/support/redis-failover.ts";
import { startRedisSentinel } from "../../test/support/redis-sentinel.ts";
import { startRedis } from "../../test/support/redis.ts";
import { startTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";
import { type Deployment, type RedisSettings, startDeployment } from "./schedule-deployment.ts";
import { clientLinkFaults, type Fault, gatewayFaults, lasts, redisLinkFaults } from "./schedule-faults.ts";

export const arenaKinds = ["standalone", "sentinel", "cluster"] as const;
export type ArenaKind = (typeof arenaKinds)[number];

export interface Arena {
  readonly kind: ArenaKind;
  readonly deployment: Deployment;
  /** Faults that take turns; some take long. */
  readonly turns: readonly Fault[];
  /** Faults that are drawn beside them. */
  readonly drawn: readonly Fault[];
  /** Resolves once everything runs as at the start. */
  whole(): Promise<void>;
  stop(): Promise<void>;
}

const gatewayCount = 2;
const starters = { standalone: startStandalone, sentinel: startSentinelArena, cluster: startClusterArena };

export async function startArena(kind: ArenaKind): Promise<Arena> {
  return starters[kind]();
}

async function startStandalone(): Promise<Arena> {
  const redis = await startRedis({ appendOnly: true });
  const links: TcpProxy[] = [];
  for (let n = 0; n <= gatewayCount; n++) links.push(await startTcpProxy(redis.port));
  const [apiLink, ...gatewayLinks] = links as [TcpProxy, ...TcpProxy[]];
  const through = (link: TcpProxy): Record<string, string> => ({ REDIS_URL: `redis://127.0.0.1:${link.port}` });
  const deployment = await startOn(redis, { privateApi: through(apiLink), gateways: gatewayLinks.map(through) });
  const { short, long } = gatewayFaults(deployment.gateways);
  const drawn: Fault[] = [
    ...clientLinkFaults(deployment.clientLinks),
    ...redisLinkFaults("gateway–Redis", gatewayLinks),
    ...redisLinkFaults("private-api–Redis", [apiLink]),
    ...short,
    {
      kind: "Redis killed, restarted with its data",
      targets: [redis],
      run: async (_, random, signal) => {
        await redis.kill();
        await lasts(random.between(0, 1_500), signal);
        await redis.restart();
      },
    },
    {
      kind: "Redis killed, restarted without data",
      targets: [redis],
      losesWrites: true,
      run: async (_, random, signal) => {
        await redis.kill();
        await lasts(random.between(0, 1_500), signal);
        await redis.restart({ empty: true });
      },
    },
    {
      kind: "Redis frozen",
      targets: [redis],
      run: async (_, random, signal) => {
        redis.signal("SIGSTOP");
        await lasts(random.between(200, 4_500), signal);
        redis.signal("SIGCONT");
      },
    },
  ];
  return {
    kind: "standalone",
    deployment,
    turns: [...drawn, long],
    drawn,
    whole: async () => wholeDeployment(deployment, links),
    stop: async () => {
      await deployment.stop();
      await Promise.all(links.map((link) => link.stop()));
      await redis.stop();
    },
  };
}

async function startSentinelArena(): Promise<Arena> {
  const sentinel = await startRedisSentinel({ replicas: 1 });
  const settings = {
    REDIS_SENTINELS: sentinel.target.sentinels.join(","),
    REDIS_SENTINEL_MASTER: sentinel.target.master,
  };
  const deployment = await startOn(sentinel, sameFor(settings));
  const failOver = async (losing: boolean, before: () => Promise<void>): Promise<void> => {
    await sentinel.whole();
    const primary = await sentinel.primary();
    const replicas = sentinel.servers.filter((server) => server !== primary);
    if (losing) await freezeReplicas(primary, replicas);
    await before();
    await dieAhead(primary, replicas);
    await sentinel.promoted(primary);
    await sentinel.whole();
  };
  return {
    kind: "sentinel",
    deployment,
    turns: failovers("Sentinel failover", sentinel, failOver),
    drawn: [...clientLinkFaults(deployment.clientLinks), ...gatewayFaults(deployment.gateways).short],
    whole: async () => {
      await sentinel.whole();
      await wholeDeployment(deployment, []);
    },
    stop: async () => {
      await deployment.stop();
      await sentinel.stop();
    },
  };
}

async function startClusterArena(): Promise<Arena> {
  const cluster = await startRedisCluster({ replicas: 1 });
  const { nodes } = cluster.target as RedisTarget & { kind: "cluster" };
  const deployment = await startOn(cluster, sameFor({ REDIS_CLUSTER: nodes.join(",") }));
  const isWhole = async (): Promise<boolean> => {
    const shards = await cluster.shards();
    return shards.length === 3 && shards.every(({ replicas }) => replicas.length === 1);
  };
  const whole = async (): Promise<void> => eventually(isWhole, 30_000);
  const failOver = async (losing: boolean, before: () => Promise<void>): Promise<void> => {
    await whole();
    // All three shards, so that every channel is affected; one after the other, since elections need a majority of primaries.
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
      await eventually(promoted, 30_000);
      await primary.restart();
      await whole();
    }
  };
  return {
    kind: "cluster",
    deployment,
    drawn: [...clientLinkFaults(deployment.clientLinks), ...gatewayFaults(deployment.gateways).short],
    turns: [
      ...failovers("Cluster takeover", cluster, failOver),
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
          }, 30_000);
          await primary.restart();
          await whole();
        },
      },
    ],
    whole: async () => {
      await whole();
      await wholeDeployment(deployment, []);
    },
    stop: async () => {
      await deployment.stop();
      await cluster.stop();
    },
  };
}

function sameFor(settings: Record<string, string>): RedisSettings {
  return { privateApi: settings, gateways: Array.from({ length: gatewayCount }, () => settings) };
}

/** Stops the servers where the deployment does not start. */
async function startOn(servers: { stop(): Promise<void> }, settings: RedisSettings): Promise<Deployment> {
  try {
    return await startDeployment(settings);
  } catch (error) {
    await servers.stop();
    throw error;
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

async function wholeDeployment(deployment: Deployment, links: readonly TcpProxy[]): Promise<void> {
  for (const link of [...links, ...deployment.clientLinks]) link.heal();
  for (const gateway of deployment.gateways) if (!gateway.running) gateway.restart();
  await Promise.all([deployment.privateApi, ...deployment.gateways].map((program) => program.ready()));
}
