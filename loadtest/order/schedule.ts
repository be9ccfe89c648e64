/** One random schedule: clients emit, the service takes, faults drawn from a seed, and the verdict. */
import { setTimeout as pause } from "node:timers/promises";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import { userToken } from "../../test/support/stock-client.ts";
import { FaultRunner } from "../checker/fault-runner.ts";
import { call } from "../checker/private-api.ts";
import type { ScheduleResult } from "../checker/schedule-series.ts";
import type { OrderArena } from "./arena.ts";
import type { KeyVerdict } from "./key-ledger.ts";
import { hookSecret, orderEvents, orderSources, tenants } from "./rules.ts";
import { OrderRun } from "./run.ts";
import type { Violation } from "./violations.ts";

const perSecond = 4;
/** Without an item that is taken: on a busy machine a program takes a minute to start. */
const settleMs = 180_000;
/** Part of the pauses in which another fault is drawn. */
const drawnPart = 0.4;

export interface OrderScheduleOptions {
  readonly arena: OrderArena;
  readonly seed: string;
  readonly index: number;
  /** Number of the first fault that the schedule must run, in the endless list of the arena's faults. */
  readonly turn: number;
  /** How many of them. */
  readonly turns: number;
}

export async function runOrderSchedule(options: OrderScheduleOptions): Promise<ScheduleResult<KeyVerdict>> {
  const { arena, index } = options;
  const seed = `${options.seed}/${index}`;
  const { deployment, receiver, api, lossWindows, busy } = arena;
  const random = new SeededRandom(seed);
  const faults = new FaultRunner({ seed, random, busy, lossWindows });
  const acks = new Acks();
  const run = new OrderRun({
    gatewayUrls: deployment.gatewayUrls,
    name: `${index}-${Date.now()}`,
    tokens: await Promise.all(
      tenants.map(async (tenant) => userToken({ sub: `user-${index}`, ...(tenant !== "" && { tenant }) })),
    ),
    events: orderEvents,
    hooks: { secret: hookSecret, sources: orderSources },
    reconnectMs: 300,
    random: new SeededRandom(`${seed}/clients`).next,
    onAck: (url) => acks.came(url),
    ...{ api, receiver, perSecond, lossWindows },
  });
  let verdicts: KeyVerdict[] = [];
  let left: string[] = [];
  const ending = new AbortController();
  try {
    run.start();
    const emitting = run.run(ending.signal);
    await runFaults(options, { run, faults, random, acks });
    await faults.allEnd();
    faults.note("everything heals");
    ending.abort();
    await emitting;
    faults.note("the last items");
    verdicts = await run.finish(settleMs);
    if (violationsOf(verdicts).some(({ kind }) => kind === "lost")) left = await leftBehind(arena, run);
  } catch (error) {
    faults.failures.push(String(error));
  } finally {
    ending.abort();
    await faults.stop();
    run.stop();
    for (const { key } of run.ledgers) receiver.remove(key);
  }
  faults.failures.push(...deployment.deaths());
  return {
    index,
    arena: arena.kind,
    faults: faults.kinds,
    verdicts,
    failures: faults.failures,
    trace: () => {
      const title = `schedule ${index} of seed ${options.seed}`;
      return [title, ...traceOf(arena, { run, faults, verdicts, left })].join("\n");
    },
  };
}

/** The faults whose turn it is, and others beside them. */
async function runFaults(
  { arena, turn, turns }: OrderScheduleOptions,
  { run, faults, random, acks }: { run: OrderRun; faults: FaultRunner; random: SeededRandom; acks: Acks },
): Promise<void> {
  const own = arena.faultsFor(run, async (url, withinMs) => acks.next(url, withinMs));
  for (let n = turn; n < turn + turns; n++) {
    await pause(random.between(50, 500));
    const fault = own.turns[n % own.turns.length];
    if (fault) await faults.beginOnceFree(fault);
    await pause(random.between(50, 700));
    random.pick(run.emitters).drop();
    if (random.next() < drawnPart) faults.begin(random.pick(own.drawn));
  }
}

function traceOf(
  { kind, deployment }: OrderArena,
  {
    run,
    faults,
    verdicts,
    left,
  }: { run: OrderRun; faults: FaultRunner; verdicts: readonly KeyVerdict[]; left: readonly string[] },
): string[] {
  const violations = violationsOf(verdicts);
  const affected = run.ledgers.filter(({ key }) => violations.some((violation) => violation.key === key));
  return [
    `${kind}, began at ${faults.beganAt}, ${faults.startedAt.toFixed(0)} ms`,
    ...faults.log.map((line) => `  ${line}`),
    ...faults.failures,
    ...violations.map(({ kind, key, detail }) => `${kind}: ${key} ${detail}`),
    ...left,
    ...deployment.lastOutput(),
    ...affected.map((ledger) => `${ledger.key} (${ledger.event}):\n  ${ledger.trace().join("\n  ")}`),
  ];
}

function violationsOf(verdicts: readonly KeyVerdict[]): Violation[] {
  return verdicts.flatMap(({ violations }) => violations);
}

/** Where lost items may wait: in the queues, or in the journal of a gateway. */
async function leftBehind({ api, deployment }: OrderArena, { lastProblem }: OrderRun): Promise<string[]> {
  const queues = await call(api, "/v1/queues").then(({ body }) => JSON.stringify(body), String);
  const healths = await Promise.all(
    deployment.programs.map(async (program) => `${program.name}: ${JSON.stringify(await program.health())}`),
  );
  return [`queues: ${queues}`, ...healths, ...(lastProblem === undefined ? [] : [lastProblem])];
}

/** Lets faults wait for the acks of one gateway. */
class Acks {
  readonly #waiting = new Map<string, Set<() => void>>();

  came(url: string): void {
    for (const resolve of this.#waiting.get(url) ?? []) resolve();
    this.#waiting.delete(url);
  }

  async next(url: string, withinMs: number): Promise<void> {
    const waiting = this.#waiting.get(url) ?? new Set();
    this.#waiting.set(url, waiting);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      waiting.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
