/** A deployment, its Redis, and the faults of both. */
import { startRedis } from "../../test/support/redis.ts";
import { startTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";
import { type Deployment, startDeployment } from "./schedule-deployment.ts";
import { clientLinkFaults, type Fault, gatewayFaults, lasts, redisLinkFaults } from "./schedule-faults.ts";
import { type ScheduleRedis, startScheduleCluster, startScheduleSentinel } from "./schedule-redis.ts";
import type { ArenaKind } from "./schedule-series.ts";

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

/** History of a schedule's channels: enough for any outage, and too little for some. */
export const historySizes = { whole: 10_000, brief: 20 } as const;
const rules = {
  namespaces: Object.fromEntries(
    Object.entries(historySizes).map(([name, historySize]) => [name, { access: "user", historySize }]),
  ),
};
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
  const deployment = await startDeployment({
    servers: redis,
    privateApis: [through(apiLink)],
    gateways: gatewayLinks.map(through),
    rules,
  });
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
  return arenaOn("sentinel", await startScheduleSentinel());
}

async function startClusterArena(): Promise<Arena> {
  return arenaOn("cluster", await startScheduleCluster());
}

async function arenaOn(kind: ArenaKind, redis: ScheduleRedis): Promise<Arena> {
  const deployment = await startDeployment({
    servers: redis,
    privateApis: [redis.settings],
    gateways: Array.from({ length: gatewayCount }, () => redis.settings),
    rules,
  });
  return {
    kind,
    deployment,
    turns: redis.faults,
    drawn: [...clientLinkFaults(deployment.clientLinks), ...gatewayFaults(deployment.gateways).short],
    whole: async () => {
      await redis.whole();
      await wholeDeployment(deployment, []);
    },
    stop: async () => {
      await deployment.stop();
      await redis.stop();
    },
  };
}

async function wholeDeployment(deployment: Deployment, links: readonly TcpProxy[]): Promise<void> {
  for (const link of [...links, ...deployment.clientLinks]) link.heal();
  for (const gateway of deployment.gateways) if (!gateway.running) gateway.restart();
  await Promise.all(deployment.programs.map((program) => program.ready()));
}
