/**
 * What an item costs in a keyed queue, beside a job of BullMQ in the same run: CPU of Node and Redis.
 *
 *   npm run loadtest -- queue [--json]
 *   BULKS (200) BULK (250 items, added at once) KEYS (10000) CONCURRENCY (32) ROUNDS (3) BULLMQ (1; 0 leaves it out)
 *
 * Each round adds all items, then processes them with work that does nothing; and then adds and processes them at the same time.
 * The dispatcher and what enqueues are those of the programs, without HTTP. Both systems use one Redis, in turn; the tables
 * show the median of the rounds. Verdicts: our items arrive in order of their key, each once; the cost is at most a third of
 * BullMQ's; fewer than 0.2 round trips and at most 12 commands of Redis for an item. Needs the npm registry, for BullMQ.
 */
import { eventually } from "../../test/support/eventually.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { type BullMq, bullMqVersion, installBullMq } from "../rig/bullmq.ts";
import type { Fleet } from "../rig/fleet.ts";
import { itemOf, openStore, type OpenedStore, startDispatcher, workersForFirstAttempts } from "../rig/queue-rig.ts";
import { type RedisUse, RedisUseReader, useSince } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  bulks: parameter("BULKS", 200, 10, 10_000),
  keys: parameter("KEYS", 10_000, 1, 1_000_000),
  bulk: parameter("BULK", 250, 1, 10_000),
  concurrency: parameter("CONCURRENCY", 32, 1, 1_000),
  rounds: parameter("ROUNDS", 3, 1, 100),
  bullMq: parameter("BULLMQ", 1, 0, 1),
};
const items = parameters.bulks * parameters.bulk;
const costShare = 1 / 3;
const maxRoundTrips = 0.2;
const maxCommands = 12;
/** Bulks that are added and not yet processed, while both happen at the same time. */
const maxBulksAhead = 4;
const warmUpBulks = 20;
const processWithinMs = 120_000;

/** For one item. */
interface Cost {
  readonly nodeMicros: number;
  readonly redisMicros: number;
  readonly commands: number;
  readonly roundTrips: number;
}

const phases = ["add", "process", "both at once"] as const;
type Phase = (typeof phases)[number];
type Costs = Record<Phase, Cost>;

/** One system under the same load. */
interface Contender {
  /** Resolves once all of them are stored. @param first number of the first item */
  addBulk(first: number): Promise<void>;
  /** Calls `onItem` for each item, until the returned function is called; it resolves once the work under way has ended. */
  process(onItem: () => void): Promise<() => Promise<void>>;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const url = await fleet.startRedis();
  const reader = new RedisUseReader(url);
  const bullMq = parameters.bullMq === 1 ? installBullMq() : undefined;
  const [gateway, privateApi] = [await openStore(url), await openStore(url)];
  const keyed = new KeyedQueues(gateway, privateApi);
  const measured = { keyed: [] as Costs[], bullMq: [] as Costs[] };
  try {
    await warmUp(keyed);
    for (let round = 1; round <= parameters.rounds; round++) {
      say(`round ${round} of ${parameters.rounds}`);
      measured.keyed.push(await measure(keyed, reader));
      if (bullMq) measured.bullMq.push(await measure(bullMqContender(bullMq, url), reader));
    }
  } finally {
    reader.stop();
    await privateApi.stop();
    await gateway.stop();
  }
  return report(measured, keyed);
}

async function warmUp(contender: Contender): Promise<void> {
  let processed = 0;
  const stop = await contender.process(() => void processed++);
  for (let bulk = 0; bulk < warmUpBulks; bulk++) await contender.addBulk(bulk * parameters.bulk);
  await eventually(() => processed === warmUpBulks * parameters.bulk, processWithinMs);
  await stop();
}

async function measure(contender: Contender, reader: RedisUseReader): Promise<Costs> {
  await reader.client.flushall();
  const add = await costOf(reader, async () => {
    for (let first = 0; first < items; first += parameters.bulk) await contender.addBulk(first);
  });
  const process = await costOf(reader, async () => {
    let processed = 0;
    const stop = await contender.process(() => void processed++);
    await eventually(() => processed === items, processWithinMs);
    await stop();
  });
  const both = await costOf(reader, async () => {
    let processed = 0;
    const stop = await contender.process(() => void processed++);
    for (let added = 0; added < items; added += parameters.bulk) {
      await contender.addBulk(added);
      await eventually(() => added - processed < maxBulksAhead * parameters.bulk, processWithinMs);
    }
    await eventually(() => processed === items, processWithinMs);
    await stop();
  });
  return { add, process, "both at once": both };
}

async function costOf(reader: RedisUseReader, act: () => Promise<void>): Promise<Cost> {
  const before = { redis: await reader.read(), node: process.cpuUsage() };
  await act();
  const node = process.cpuUsage(before.node);
  const redis: RedisUse = useSince(before.redis, await reader.read());
  return {
    nodeMicros: (node.user + node.system) / items,
    redisMicros: (redis.cpuMs * 1_000) / items,
    commands: redis.commands / items,
    roundTrips: redis.roundTrips / items,
  };
}

class KeyedQueues implements Contender {
  readonly #gateway: OpenedStore;
  readonly #privateApi: OpenedStore;
  /** By key, the number of its latest item. */
  readonly #latest = new Map<string, number>();
  outOfOrder = 0;
  #added = 0;

  constructor(gateway: OpenedStore, privateApi: OpenedStore) {
    this.#gateway = gateway;
    this.#privateApi = privateApi;
  }

  async addBulk(first: number): Promise<void> {
    const { store } = this.#gateway;
    const stored = Array.from({ length: parameters.bulk }, async (_, index) => {
      const key = `card-${(first + index) % parameters.keys}`;
      return store.enqueue(itemOf({ key, id: String(++this.#added) }));
    });
    await Promise.all(stored);
  }

  async process(onItem: () => void): Promise<() => Promise<void>> {
    const dispatcher = await startDispatcher(this.#privateApi.store, {
      workers: workersForFirstAttempts(parameters.concurrency),
      work: ({ webhookId }, key) => {
        const number = Number(webhookId);
        if (number <= (this.#latest.get(key) ?? 0)) this.outOfOrder++;
        this.#latest.set(key, number);
        onItem();
      },
    });
    return async () => dispatcher.stop();
  }
}

function bullMqContender({ Queue, Worker }: BullMq, url: string): Contender {
  const connection = { host: "127.0.0.1", port: Number(new URL(url).port) };
  const queue = new Queue("load", { connection });
  return {
    addBulk: async (first) => {
      const jobs = Array.from({ length: parameters.bulk }, (_, index) => {
        const { head, data } = itemOf({ key: `card-${(first + index) % parameters.keys}`, id: String(first + index) });
        return { name: "card.move", data: { head, data }, opts: { removeOnComplete: true } };
      });
      await queue.addBulk(jobs);
    },
    process: async (onItem) => {
      const { concurrency } = parameters;
      const worker = new Worker("load", async () => onItem(), { connection, concurrency });
      worker.on("error", (error) => say(String(error)));
      await worker.waitUntilReady();
      return async () => worker.close();
    },
  };
}

function report(measured: { keyed: Costs[]; bullMq: Costs[] }, { outOfOrder }: KeyedQueues): ScenarioReport {
  const [ours, theirs] = [medians(measured.keyed), medians(measured.bullMq)];
  const total = ({ nodeMicros, redisMicros }: Cost): number => nodeMicros + redisMicros;
  const rows = phases.flatMap((phase) =>
    [["keyed queue", ours] as const, ...(theirs ? [[`BullMQ ${bullMqVersion}`, theirs] as const] : [])].map(
      ([name, costs]) => {
        const cost = costs?.[phase] ?? noCost;
        const cells = [total(cost), cost.nodeMicros, cost.redisMicros].map((micros) => Number(micros.toFixed(1)));
        // The statistics tell commands of BullMQ's clients and of its scripts apart by no name.
        const roundTrips = costs === theirs ? "" : Number(cost.roundTrips.toFixed(3));
        return [phase, name, ...cells, Number(cost.commands.toFixed(2)), roundTrips];
      },
    ),
  );
  const worst = (read: (cost: Cost) => number): number =>
    Math.max(read(ours?.add ?? noCost) + read(ours?.process ?? noCost), read(ours?.["both at once"] ?? noCost));
  const shares = theirs && {
    "in turn":
      (total(ours?.add ?? noCost) + total(ours?.process ?? noCost)) / (total(theirs.add) + total(theirs.process)),
    "both at once": total(ours?.["both at once"] ?? noCost) / total(theirs["both at once"]),
  };
  const [commands, roundTrips] = [worst((cost) => cost.commands), worst((cost) => cost.roundTrips)];
  return {
    scenario: "queue",
    parameters,
    figures: {},
    tables: [
      {
        columns: ["", "", "CPU per item, µs", "Node", "Redis", "Redis commands per item", "round trips per item"],
        rows,
      },
    ],
    verdicts: [
      { title: "each item arrives once and in order of its key", pass: outOfOrder === 0, value: outOfOrder },
      ...Object.entries(shares ?? {}).map(([name, share]) => ({
        title: `adding and processing, ${name}, takes at most a third of BullMQ's CPU`,
        pass: share <= costShare,
        value: share.toFixed(2),
      })),
      {
        title: `fewer than ${maxRoundTrips} round trips to Redis for an item`,
        pass: roundTrips < maxRoundTrips,
        value: roundTrips.toFixed(3),
      },
      {
        title: `at most ${maxCommands} commands of Redis for an item`,
        pass: commands <= maxCommands,
        value: commands.toFixed(2),
      },
    ],
  };
}

const noCost: Cost = { nodeMicros: Number.NaN, redisMicros: Number.NaN, commands: Number.NaN, roundTrips: Number.NaN };

/** Of each figure by itself. Undefined where nothing was measured. */
function medians(rounds: readonly Costs[]): Costs | undefined {
  if (rounds.length === 0) return undefined;
  const of = (phase: Phase): Cost => {
    const median = (figure: keyof Cost): number =>
      percentile(
        rounds.map((costs) => costs[phase][figure]),
        0.5,
      );
    return {
      nodeMicros: median("nodeMicros"),
      redisMicros: median("redisMicros"),
      commands: median("commands"),
      roundTrips: median("roundTrips"),
    };
  };
  return { add: of("add"), process: of("process"), "both at once": of("both at once") };
}

await runScenario(run);
