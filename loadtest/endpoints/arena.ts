/** A deployment with its Redis and the URLs of endpoints, and the faults of all of them. */
import { tokens } from "../../test/support/fleet.ts";
import { startRedis } from "../../test/support/redis.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import type { LossWindow } from "../checker/fault-runner.ts";
import type { PrivateApiAddress } from "../checker/private-api.ts";
import { type Deployment, type Servers, startDeployment } from "../checker/schedule-deployment.ts";
import type { Fault } from "../checker/schedule-faults.ts";
import { startScheduleCluster, startScheduleSentinel } from "../checker/schedule-redis.ts";
import type { ArenaKind } from "../checker/schedule-series.ts";
import { redisRestart, rollingRestart, shortFreezes, workerFaults } from "../order/faults.ts";
import { allKilled, endpointFaults, pauses } from "./faults.ts";
import { WebhookReceiver } from "./receiver.ts";

/** Schedules of one arena run at the same time, too: each fault affects the endpoints of all of them. */
export interface EndpointArena {
  readonly kind: ArenaKind;
  readonly deployment: Deployment;
  readonly receiver: WebhookReceiver;
  readonly apis: readonly PrivateApiAddress[];
  readonly lossWindows: LossWindow[];
  /** Targets that have a fault. */
  readonly busy: Set<object>;
  /** Of all schedules. */
  readonly faultsBegun: () => number;
  /** Faults that take turns, and those that are drawn beside them, if any. */
  faultsFor(endpoints: readonly { readonly id: string }[]): { turns: readonly Fault[]; drawn: readonly Fault[] };
  stop(): Promise<void>;
}

interface ArenaRedis extends Servers {
  readonly settings: Readonly<Record<string, string>>;
  readonly faults: readonly Fault[];
}

/** Each reads and delivers. */
const privateApiCount = 2;
/** History of a schedule's channels: all of it. */
export const historySize = 10_000;
const rules = { namespaces: { changes: { access: "user", historySize, changes: true } } };

/** `kills`: private APIs are killed, and now and then frozen past their leases. */
export const faultSets = ["all", "kills"] as const;
export type FaultSet = (typeof faultSets)[number];

const killsPerFreeze = 10;

export async function startEndpointArena(
  kind: ArenaKind,
  seed: string,
  faults: FaultSet = "all",
): Promise<EndpointArena> {
  const redis = await startRedisOf(kind);
  const receiver = new WebhookReceiver(new SeededRandom(`${seed}/receiver`));
  await receiver.start();
  const stopServers = async (): Promise<void> => {
    await receiver.stop();
    await redis.stop();
  };
  const own = { ...redis.settings, PRIVATE_API_STOP_SECONDS: "6", ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" };
  const deployment = await startDeployment({
    servers: { ...redis, stop: stopServers },
    privateApis: Array.from({ length: privateApiCount }, () => own),
    gateways: [{ ...redis.settings, GATEWAY_DRAIN_SECONDS: "2", GATEWAY_ADMISSIONS_PER_SECOND: "10000" }],
    rules,
  });
  const apis = deployment.apiUrls.map((url) => ({ url, token: tokens.service }));
  let begun = 0;
  const counted = (fault: Fault): Fault => ({
    ...fault,
    run: async (...given) => {
      begun++;
      await fault.run(...given);
    },
  });
  return {
    kind,
    deployment,
    receiver,
    apis,
    lossWindows: [],
    busy: new Set(),
    faultsBegun: () => begun,
    faultsFor: (endpoints) => {
      if (faults === "kills") {
        const [killed, ...frozen] = workerFaults(deployment.privateApis).map(counted);
        return { turns: killed ? [...Array.from({ length: killsPerFreeze }, () => killed), ...frozen] : [], drawn: [] };
      }
      const drawn = [
        ...workerFaults(deployment.privateApis),
        pauses(apis, endpoints),
        allKilled(deployment.privateApis),
        ...endpointFaults(receiver),
        shortFreezes(deployment.programs),
        rollingRestart(deployment),
      ].map(counted);
      const ofRedis = redis.faults.map(counted);
      return { turns: kind === "standalone" ? [...ofRedis, ...drawn] : ofRedis, drawn };
    },
    stop: async () => {
      await deployment.stop();
      await stopServers();
    },
  };
}

async function startRedisOf(kind: ArenaKind): Promise<ArenaRedis> {
  if (kind === "sentinel") return startScheduleSentinel();
  if (kind === "cluster") return startScheduleCluster();
  const redis = await startRedis({ appendOnly: true });
  return {
    settings: { REDIS_URL: redis.url },
    faults: [redisRestart(redis)],
    stop: async () => redis.stop(),
  };
}
