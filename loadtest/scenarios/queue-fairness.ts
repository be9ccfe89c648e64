/**
 * How long an item of a keyed queue waits beside a flood: of another tenant, of one key, of another class.
 *
 *   npm run loadtest -- queue-fairness [--json]
 *   FLOOD (100000 items; the mark is 1000000) RATE (200 items/s) SECONDS (10 for each measurement) WORKERS (32) WORK_MS (2)
 *
 * One dispatcher, work that takes WORK_MS. An item's wait begins before it is enqueued and ends when its work begins. Items at
 * RATE go to 200 keys in turn. Verdicts: while another tenant's FLOOD waits, a single item follows at most the items that are
 * claimed already when the dispatcher hears of it, and one turn of the ring; while one key gets 4 × RATE, and while FLOOD items of the class `stats` wait, the p99
 * of the others is at most twice the quiet one of the same run.
 */
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import { Arrivals } from "../checks/arrivals.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import type { Fleet } from "../rig/fleet.ts";
import { Workers } from "../../private-api/dispatch/workers.ts";
import { type ItemOptions, itemOf, openStore, type OpenedStore, startDispatcher } from "../rig/queue-rig.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  flood: parameter("FLOOD", 100_000, 1_000, 10_000_000),
  rate: parameter("RATE", 200, 10, 10_000),
  seconds: parameter("SECONDS", 10, 1, 600),
  workers: parameter("WORKERS", 32, 2, 1_000),
  workMs: parameter("WORK_MS", 2, 0, 1_000),
};
const noisyFactor = 4;
const maxWaitFactor = 2;
const bulk = 1_000;
const singles = 100;
const betweenSinglesMs = 20;
const arriveWithinMs = 60_000;
const enqueueEveryMs = 5;
const classes = new Map([
  ["messages", { share: 8 }],
  ["stats", { share: 1 }],
]);

/** Items that are enqueued at a steady rate, to some keys in turn. */
interface Group {
  readonly name: string;
  readonly perSecond: number;
  readonly keys: number;
  readonly isMeasured: boolean;
}

const others: Group = { name: "others", perSecond: parameters.rate, keys: 200, isMeasured: true };
const noisy: Group = { name: "noisy", perSecond: noisyFactor * parameters.rate, keys: 1, isMeasured: false };

function newWorkers(): Workers {
  return new Workers({ total: parameters.workers, classes: () => classes });
}

/** One measurement: what it enqueues and how it arrives. */
class Trial {
  readonly arrivals = new Arrivals();
  readonly #gateway: OpenedStore;
  readonly #privateApi: OpenedStore;

  constructor(gateway: OpenedStore, privateApi: OpenedStore) {
    this.#gateway = gateway;
    this.#privateApi = privateApi;
  }

  /** Runs `act` beside a dispatcher. */
  async dispatching(act: () => Promise<void>): Promise<void> {
    const dispatcher = await startDispatcher(this.#privateApi.store, {
      workers: newWorkers(),
      work: async ({ webhookId }) => {
        this.arrivals.begin(webhookId);
        await pause(parameters.workMs);
      },
    });
    try {
      await act();
    } finally {
      await dispatcher.stop();
    }
  }

  async enqueue(options: ItemOptions): Promise<void> {
    await this.#gateway.store.enqueue(itemOf(options));
  }

  /** Items that only wait. */
  async flood(options: Omit<ItemOptions, "id" | "key">): Promise<void> {
    say(`enqueueing ${parameters.flood} items`);
    for (let first = 0; first < parameters.flood; first += bulk) {
      await Promise.all(
        Array.from({ length: bulk }, async (_, index) =>
          this.enqueue({ ...options, key: `flood-${first + index}`, id: `flood-${first + index}` }),
        ),
      );
    }
  }

  /** Enqueues at a steady rate, and waits until the measured items have arrived. */
  async load(groups: readonly Group[]): Promise<void> {
    const startedAt = performance.now();
    const enqueued = new Map<string, number>();
    const under: Promise<void>[] = [];
    for (let seconds = 0; seconds < parameters.seconds; seconds = (performance.now() - startedAt) / 1_000) {
      for (const { name, perSecond, keys, isMeasured } of groups) {
        const before = enqueued.get(name) ?? 0;
        const due = Math.floor(seconds * perSecond);
        for (let number = before; number < due; number++) {
          const id = `${name}-${number}`;
          if (isMeasured) this.arrivals.expect(id);
          under.push(this.enqueue({ key: `${name}-${number % keys}`, id, class: "messages" }));
        }
        enqueued.set(name, Math.max(before, due));
      }
      await pause(enqueueEveryMs);
    }
    await Promise.all(under);
    await eventually(() => this.arrivals.missing === 0, arriveWithinMs);
  }

  /** The dispatcher hears that a tenant has a ready queue. */
  onReady(heard: (tenant: string) => void): void {
    this.#privateApi.store.listen({ onReady: ({ tenant }) => heard(tenant), onRestored: () => undefined });
  }

  async stop(): Promise<void> {
    await this.#privateApi.stop();
    await this.#gateway.stop();
  }
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const url = await fleet.startRedis();
  const reader = new RedisUseReader(url);
  const rows: (string | number)[][] = [];
  /** Each trial begins with an empty Redis. */
  const tried = async (title: string, group: string, act: (trial: Trial) => Promise<void>): Promise<Arrivals> => {
    say(title);
    await reader.client.flushall();
    const trial = new Trial(await openStore(url), await openStore(url));
    try {
      await act(trial);
    } finally {
      await trial.stop();
    }
    const { arrivals } = trial;
    const waits = arrivals.waits.get(group) ?? [];
    rows.push([title, waits.length, rounded(percentile(waits, 0.5)), rounded(percentile(waits, 0.99))]);
    return arrivals;
  };
  try {
    const quiet = await tried("quiet", "others", measureOthers);
    const oneKey = await tried(`one key gets ${noisyFactor} × all others`, "others", measureOneKey);
    const stats = await tried(`${parameters.flood} items of another class wait`, "others", async (trial) => {
      await trial.flood({ class: "stats" });
      await measureOthers(trial);
    });
    const turns: number[] = [];
    await tried(`${parameters.flood} items of another tenant wait`, "single", async (trial) => {
      await trial.flood({ tenant: "crowd" });
      turns.push(...(await measureSingles(trial)));
    });
    return {
      scenario: "queue-fairness",
      parameters,
      figures: {},
      tables: [{ columns: ["wait of an item, ms", "items", "p50", "p99"], rows }],
      verdicts: [
        waitVerdict(`one key that gets ${noisyFactor} times as much`, oneKey, quiet),
        waitVerdict("a flood of another class", stats, quiet),
        turnVerdict(turns),
      ],
    };
  } finally {
    reader.stop();
  }
}

async function measureOthers(trial: Trial): Promise<void> {
  await trial.dispatching(async () => {
    await trial.load([others]);
  });
}

async function measureOneKey(trial: Trial): Promise<void> {
  await trial.dispatching(async () => {
    await trial.load([others, noisy]);
  });
}

/** @returns for each single item, how many others began after it was stored and the dispatcher had heard of it, and before it. */
async function measureSingles(trial: Trial): Promise<number[]> {
  const { arrivals } = trial;
  const turns: number[] = [];
  const begunWhenHeard = new Map<string, number>();
  trial.onReady((tenant) => begunWhenHeard.set(tenant, arrivals.begun));
  await trial.dispatching(async () => {
    for (let number = 0; number < singles; number++) {
      await pause(betweenSinglesMs);
      const [id, tenant] = [`single-${number}`, `lone-${number}`];
      arrivals.expect(id);
      await trial.enqueue({ key: id, id, tenant });
      const begunWhenStored = arrivals.begun;
      await eventually(() => arrivals.orderOf(id) !== undefined, arriveWithinMs);
      const begunBefore = Math.max(begunWhenStored, begunWhenHeard.get(tenant) ?? 0);
      turns.push(Math.max(0, (arrivals.orderOf(id) ?? Number.NaN) - begunBefore - 1));
    }
  });
  return turns;
}

function waitVerdict(flood: string, arrivals: Arrivals, quiet: Arrivals): Verdict {
  const p99 = ({ waits }: Arrivals): number => percentile(waits.get("others") ?? [], 0.99);
  const factor = p99(arrivals) / p99(quiet);
  return {
    title: `the p99 beside ${flood} is at most ${maxWaitFactor} × the quiet one`,
    pass: factor <= maxWaitFactor,
    value: factor.toFixed(2),
  };
}

/** A claim that is under way may fill every worker; the next one takes the tenants in turn. */
function turnVerdict(turns: readonly number[]): Verdict {
  const most = newWorkers().free("messages", "first") + 1;
  return {
    title: `each of ${singles} single items beside another tenant's flood follows at most ${most} of its items`,
    pass: turns.length === singles && Math.max(...turns) <= most,
    value: `median ${percentile(turns, 0.5)}, at most ${Math.max(...turns)}`,
  };
}

function rounded(ms: number): number {
  return Number(ms.toFixed(2));
}

await runScenario(run);
