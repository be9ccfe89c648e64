/** A deployment with its Redis and its service for order schedules, and the faults of all of them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { tokens } from "../../test/support/fleet.ts";
import { beginSlotMove, hashSlotOf, type RedisCluster } from "../../test/support/redis-cluster.ts";
import { startRedis } from "../../test/support/redis.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import type { LossWindow } from "../checker/fault-runner.ts";
import type { PrivateApiAddress } from "../checker/private-api.ts";
import { type Deployment, startDeployment } from "../checker/schedule-deployment.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import { type ScheduleRedis, startScheduleCluster, startScheduleSentinel } from "../checker/schedule-redis.ts";
import type { ArenaKind } from "../checker/schedule-series.ts";
import {
  clockSteps,
  itemFaults,
  killedAfterAck,
  redisAway,
  redisRestart,
  rollingRestart,
  ruleEdits,
  serviceFaults,
  shortFreezes,
  workerFaults,
} from "./faults.ts";
import { Receiver } from "./receiver.ts";
import { hookSecret, orderRules, orderService, tenants } from "./rules.ts";
import type { OrderRun } from "./run.ts";
import { ServiceBehaviour } from "./service-behaviour.ts";

/** Schedules of one arena run at the same time, too: each fault affects the keys of all of them. */
export interface OrderArena {
  readonly kind: ArenaKind;
  readonly deployment: Deployment;
  readonly receiver: Receiver;
  readonly api: PrivateApiAddress;
  readonly lossWindows: LossWindow[];
  /** Targets that have a fault. */
  readonly busy: Set<object>;
  /** Faults that take turns, and those that are drawn beside them. */
  faultsFor(
    run: OrderRun,
    nextAck: (url: string, withinMs: number) => Promise<void>,
  ): {
    turns: readonly Fault[];
    drawn: readonly Fault[];
  };
  stop(): Promise<void>;
}

/** What the deployment stores in. */
interface ArenaRedis {
  readonly settings: Readonly<Record<string, string>>;
  /** Its own faults. @param hashSlots of the schedule's keys */
  readonly faults: (hashSlots: readonly number[]) => readonly Fault[];
  stop(): Promise<void>;
}

const programCount = 2;
const movedHashSlots = 4;
const movedSlowly = 3;

export async function startOrderArena(kind: ArenaKind, seed: string): Promise<OrderArena> {
  const redis = await startRedisOf(kind);
  const behaviour = new ServiceBehaviour(new SeededRandom(`${seed}/service`));
  const receiver = new Receiver((delivery, ledger) => behaviour.treat(delivery, ledger));
  await receiver.start();
  const own = {
    ...redis.settings,
    GATEWAY_DRAIN_SECONDS: "2",
    GATEWAY_ADMISSIONS_PER_SECOND: "10000",
    PRIVATE_API_STOP_SECONDS: "6",
  };
  const programs = Array.from({ length: programCount }, () => own);
  const journal = await mkdtemp(join(tmpdir(), "tidegate-journal-"));
  const stopServers = async (): Promise<void> => {
    await receiver.stop();
    await redis.stop();
    await rm(journal, { recursive: true, force: true });
  };
  const deployment = await startDeployment({
    servers: { stop: stopServers },
    privateApis: programs,
    gateways: programs.map((settings) => ({ ...settings, JOURNAL_DIR: journal, ORDER_HOOK_SECRET: hookSecret })),
    rules: orderRules(receiver.url),
  });
  const api = { url: deployment.apiUrl, token: tokens.service };
  return {
    kind,
    deployment,
    receiver,
    api,
    lossWindows: [],
    busy: new Set(),
    faultsFor: (run, nextAck) => {
      const drawn = [
        ...workerFaults(deployment.privateApis),
        shortFreezes(deployment.programs),
        killedAfterAck(deployment, nextAck),
        rollingRestart(deployment),
        ruleEdits(deployment, receiver.url),
        clockSteps(deployment.programs),
        ...serviceFaults(behaviour),
        ...itemFaults(run.ledgers, { behaviour, api }),
      ];
      const own = redis.faults(run.ledgers.flatMap(({ key }) => hashSlotsOf(key)));
      return {
        turns: kind === "standalone" ? [...drawn, ...own] : own,
        drawn,
      };
    },
    stop: async () => {
      await deployment.stop();
      await stopServers();
    },
  };
}

async function startRedisOf(kind: ArenaKind): Promise<ArenaRedis> {
  switch (kind) {
    case "standalone": {
      const redis = await startRedis({ appendOnly: true });
      const faults = [redisRestart(redis), redisAway(redis)];
      return { settings: { REDIS_URL: redis.url }, faults: () => faults, stop: async () => redis.stop() };
    }
    case "sentinel": {
      const redis = await startScheduleSentinel();
      return { ...redis, faults: () => redis.faults };
    }
    case "cluster": {
      const { cluster, ...redis } = await startScheduleCluster();
      return { ...redis, faults: (hashSlots) => [...redis.faults, slotMoves(cluster, redis, hashSlots)] };
    }
  }
}

function slotMoves(
  cluster: RedisCluster,
  { whole }: Pick<ScheduleRedis, "whole">,
  hashSlots: readonly number[],
): Fault {
  return {
    kind: "Cluster slots moved",
    targets: [cluster],
    run: async (_, random, signal) => {
      await whole();
      for (let n = 0; n < movedHashSlots; n++) {
        const move = await beginSlotMove(cluster, random.pick(hashSlots));
        // One key at a time in the beginning, so that scripts find what they need on two servers.
        for (let key = 0; key < movedSlowly; key++) {
          await move.moveKeys(await move.keys(1));
          await lasts(random.between(0, 300), signal);
        }
        for (let keys = await move.keys(100); keys.length > 0; keys = await move.keys(100)) await move.moveKeys(keys);
        await move.end();
      }
      await whole();
    },
  };
}

/** Of the queues of a key: its client's tenant is one of these. */
function hashSlotsOf(key: string): number[] {
  return tenants.map((tenant) => hashSlotOf(String(slotOfQueue({ service: orderService, tenant, key }))));
}
