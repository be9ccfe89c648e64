/** A deployment with its Redis and its service for order schedules, and the faults of all of them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { tokens } from "../../test/support/fleet.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import type { LossWindow } from "../checker/fault-runner.ts";
import type { PrivateApiAddress } from "../checker/private-api.ts";
import { type Deployment, startDeployment } from "../checker/schedule-deployment.ts";
import type { Fault } from "../checker/schedule-faults.ts";
import { type OrderArenaKind, startArenaRedis } from "./arena-redis.ts";
import {
  clockSteps,
  itemFaults,
  killedAfterAck,
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
  readonly kind: OrderArenaKind;
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

export interface ArenaOptions {
  readonly kind: OrderArenaKind;
  readonly seed: string;
  /** So many slots have moved between cells. */
  readonly onMoved: (slots: number) => void;
}

const programCount = 2;

export async function startOrderArena({ kind, seed, onMoved }: ArenaOptions): Promise<OrderArena> {
  const redis = await startArenaRedis(kind);
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
    servers: { ...redis, stop: stopServers },
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
      const own = redis.faults({ slots: run.ledgers.flatMap(({ key }) => slotsOf(key)), api, onMoved });
      return {
        turns: kind === "standalone" ? [...drawn, ...own] : own,
        // Cells do not stand still while another fault runs.
        drawn: kind === "cells" ? [...drawn, ...own] : drawn,
      };
    },
    stop: async () => {
      await deployment.stop();
      await stopServers();
    },
  };
}

/** Of the queues of a key: its client's tenant is one of these. */
function slotsOf(key: string): number[] {
  return tenants.map((tenant) => slotOfQueue({ service: orderService, tenant, key }));
}
