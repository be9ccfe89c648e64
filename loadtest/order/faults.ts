/** The faults of order schedules. Each heals itself, and ends once its target is ready again. */
import type { SeededRandom } from "../../test/support/seeded-random.ts";
import type { RedisServer } from "../../test/support/redis.ts";
import { leaseMs } from "../../shared/queues/contract.ts";
import type { PrivateApiAddress } from "../checker/private-api.ts";
import type { Deployment } from "../checker/schedule-deployment.ts";
import type { Program } from "../checker/schedule-program.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import type { KeyLedger } from "./key-ledger.ts";
import { release } from "./operations.ts";
import type { Treatment } from "./receiver.ts";
import { editedRules, eventOfPolicy, orderRules, rulesWithoutRoutes } from "./rules.ts";
import type { ServiceBehaviour } from "./service-behaviour.ts";

/** For an ack, or a failing item, to be seen. */
const seenWithinMs = 15_000;
const lookEveryMs = 10;
const askEveryMs = 200;

export function workerFaults(workers: readonly Program[]): Fault[] {
  return [
    {
      kind: "worker killed",
      targets: workers,
      run: async (target, random, signal) => {
        const worker = target as Program;
        await worker.kill();
        await lasts(random.between(0, 1_000), signal);
        worker.restart();
        await worker.ready();
      },
    },
    frozen("worker frozen past its leases", workers, [leaseMs + 500, leaseMs + 2_500]),
  ];
}

export function shortFreezes(programs: readonly Program[]): Fault {
  return frozen("program frozen briefly", programs, [100, 2_000]);
}

function frozen(kind: string, targets: readonly Program[], lastsMs: readonly [number, number]): Fault {
  return {
    kind,
    targets,
    run: async (target, random, signal) => {
      const program = target as Program;
      program.signal("SIGSTOP");
      await lasts(random.between(...lastsMs), signal);
      program.signal("SIGCONT");
      await program.ready();
    },
  };
}

/** @param nextAck resolves with the next ack of the gateway with that address, or when the time is up */
export function killedAfterAck(
  { gateways, gatewayUrls }: Deployment,
  nextAck: (url: string, withinMs: number) => Promise<void>,
): Fault {
  return {
    kind: "gateway killed after an ack",
    targets: gateways,
    run: async (target, random, signal) => {
      const gateway = target as Program;
      await nextAck(gatewayUrls[gateways.indexOf(gateway)] ?? "", seenWithinMs);
      await gateway.kill();
      await lasts(random.between(0, 1_000), signal);
      gateway.restart();
      await gateway.ready();
    },
  };
}

export function clockSteps(programs: readonly Program[]): Fault {
  return {
    kind: "clock stepped",
    targets: programs,
    run: async (target, random, signal) => {
      const program = target as Program;
      await program.stepClock(random.pick([-3_600_000, -61_000, 45_000, 1_500_000]));
      await lasts(random.between(500, 3_000), signal);
      await program.stepClock(0);
    },
  };
}

/** SIGTERM for one program after the other, each started again. */
export function rollingRestart({ programs }: Deployment): Fault {
  return {
    kind: "rolling restart of both programs",
    targets: [programs],
    alsoAffected: programs,
    run: async () => {
      for (const program of programs) {
        await program.terminate();
        program.restart();
        await program.ready();
      }
    },
  };
}

export function redisRestart(redis: RedisServer): Fault {
  return restarted("Redis killed, restarted with its data", [redis], [0, 1_500]);
}

/** Of several cells one at a time. */
export function cellRestart(cells: readonly RedisServer[]): Fault {
  return restarted("cell killed, restarted with its data", cells, [0, 3_000]);
}

/** Long enough for gateways to journal webhooks. */
export function redisAway(redis: RedisServer): Fault {
  return restarted("Redis away while webhooks arrive", [redis], [3_000, 7_000]);
}

function restarted(kind: string, servers: readonly RedisServer[], lastsMs: readonly [number, number]): Fault {
  return {
    kind,
    targets: servers,
    run: async (target, random, signal) => {
      const redis = target as RedisServer;
      await redis.kill();
      await lasts(random.between(...lastsMs), signal);
      await redis.restart();
    },
  };
}

export function ruleEdits(deployment: Deployment, serviceUrl: string): Fault {
  return {
    kind: "rules edited",
    targets: [deployment.changeRules],
    run: async (_, random, signal) => {
      for (let edits = random.between(1, 3); edits > 0; edits--) {
        const isWithout = random.next() < 0.2;
        await deployment.changeRules(isWithout ? rulesWithoutRoutes(serviceUrl) : editedRules(serviceUrl, random));
        await lasts(random.between(200, 1_000), signal);
      }
      await deployment.changeRules(orderRules(serviceUrl));
    },
  };
}

export function serviceFaults(behaviour: ServiceBehaviour): Fault[] {
  const treats = (kind: string, treatment: (random: SeededRandom) => Treatment): Fault => ({
    kind,
    targets: [behaviour],
    run: async (_, random, signal) => {
      behaviour.fault = treatment(random);
      await lasts(random.between(500, 3_000), signal);
      behaviour.fault = undefined;
    },
  });
  return [
    treats("service hangs", () => ({ kind: "hang" })),
    treats("service drips", () => ({ kind: "drip", forMs: 3_000 })),
    treats("service answers 5xx", (random) => ({ kind: "refuse", status: random.pick([500, 502, 503]) })),
    treats("service answers Retry-After", (random) => ({
      ...{ kind: "refuse", status: random.pick([429, 503]), retryAfterSeconds: 1 },
    })),
  ];
}

/** An item fails until its policy has applied, then the service takes it. */
export function itemFaults(
  ledgers: readonly KeyLedger[],
  { behaviour, api }: { behaviour: ServiceBehaviour; api: PrivateApiAddress },
): Fault[] {
  const failing = (
    policy: keyof typeof eventOfPolicy,
    applied: (ledger: KeyLedger, item: { number?: number; refusals: number }) => boolean,
    after: (ledger: KeyLedger, signal: AbortSignal) => Promise<void> = async () => undefined,
  ): Fault => ({
    kind: `item fails: ${policy}`,
    targets: ledgers.filter(({ event }) => event === eventOfPolicy[policy]),
    run: async (target, random, signal) => {
      const ledger = target as KeyLedger;
      const item = behaviour.fail(ledger.key, random.pick([400, 422, 500]));
      await until(() => applied(ledger, item), signal);
      behaviour.heal(ledger.key);
      await after(ledger, signal);
    },
  });
  return [
    failing("skip", ({ deliveries }, { number = Infinity }) => (deliveries.at(-1)?.numbers[0] ?? 0) > number),
    failing(
      "park",
      ({ deliveries }, { refusals }) => refusals > 0 && (deliveries.at(-1)?.at ?? 0) < performance.now() - 1_000,
      async ({ key }, signal) => until(async () => release(api, key).catch(() => false), signal, askEveryMs),
    ),
    failing("block", (_, { refusals }) => refusals >= 4),
  ];
}

/** Resolves when the condition holds, the schedule ends, or the time is up: other faults may keep it from happening. */
async function until(
  condition: () => boolean | Promise<boolean>,
  signal: AbortSignal,
  everyMs = lookEveryMs,
): Promise<void> {
  const deadline = performance.now() + seenWithinMs;
  while (!signal.aborted && performance.now() < deadline && !(await condition())) await lasts(everyMs, signal);
}
