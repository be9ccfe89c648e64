/** Nodes join, report, miss answers, leave and die in any order; the fleet stays within its budget. */
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import { RedisNodeRegistry } from "../../shared/nodes/redis.ts";
import type { NodeRegistry } from "../../shared/nodes/contract.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { nodeReport } from "../support/node-reports.ts";
import { connectedRedis } from "../support/connected-redis.ts";

const budgetPerSecond = 1_000;
const names = ["heard", "reports", "shares", "drain-orders", "fleet"];
const key = (name: string): string => `tidegate:{nodes}:${name}`;

const store = connectedRedis();
let client: Redis;
beforeAll(() => {
  client = new Redis(store.redis.url);
});
afterAll(() => client.disconnect());

type Step =
  | { do: "join"; weight: number }
  | { do: "report"; node: number; weight?: number; answered: boolean }
  | { do: "leave" | "die"; node: number }
  | { do: "beats" | "five seconds" | "remember" | "lose memory" | "lose the latest writes" };

/** Thousandths, as the registry counts them. */
const weight = fc
  .oneof(fc.constant(0), fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 1_000, max: 10_000_000 }))
  .map((thousandths) => thousandths / 1_000);
const node = fc.nat({ max: 11 });
const report: fc.Arbitrary<Step> = fc.record(
  { do: fc.constant("report" as const), node, weight, answered: fc.boolean() },
  { requiredKeys: ["do", "node", "answered"] },
);
const join: fc.Arbitrary<Step> = fc.record({ do: fc.constant("join" as const), weight });
const end: fc.Arbitrary<Step> = fc.record({ do: fc.constantFrom("leave" as const, "die" as const), node });
const whole = (
  ...kinds: ("beats" | "five seconds" | "remember" | "lose memory" | "lose the latest writes")[]
): fc.Arbitrary<Step> => fc.record({ do: fc.constantFrom(...kinds) });

/** The time that passes, and the clock of the registry. */
interface Store {
  registry: NodeRegistry;
  /** Only these nodes have reported within five seconds. */
  pass(alive: readonly string[]): Promise<void>;
  remember(): Promise<void>;
  lose(kind: "lose memory" | "lose the latest writes"): Promise<void>;
}

class Fleet {
  readonly #store: Store;
  /** Reports of all nodes at one time. */
  mostHeld = 0;
  #nodes: { instance: string; weight: number; held: number | undefined }[] = [];
  /** A second loss of memory within five seconds is outside of the guarantee. */
  #mayLose = true;

  constructor(store: Store) {
    this.#store = store;
  }

  get #held(): number {
    return this.#nodes.reduce((sum, { held = 0 }) => sum + held, 0);
  }

  get nodes(): readonly { weight: number; held: number | undefined }[] {
    return this.#nodes;
  }

  async act(step: Step): Promise<void> {
    switch (step.do) {
      case "join":
        this.#nodes.push({ instance: nodeReport().instance, weight: step.weight, held: undefined });
        return this.#report(this.#nodes.length - 1, true);
      case "report": {
        const at = step.node % this.#nodes.length;
        const reporting = this.#nodes[at];
        if (!reporting) return;
        reporting.weight = step.weight ?? reporting.weight;
        return this.#report(at, step.answered);
      }
      case "leave":
      case "die": {
        const [gone] = this.#nodes.splice(step.node % this.#nodes.length, 1);
        if (gone && step.do === "leave") await this.#store.registry.leave(gone.instance);
        return;
      }
      case "beats":
        return this.settle();
      case "five seconds":
        await this.settle();
        await this.#store.pass(this.#nodes.map(({ instance }) => instance));
        this.#mayLose = true;
        return;
      case "remember":
        return this.#store.remember();
      case "lose memory":
      case "lose the latest writes":
        if (!this.#mayLose) return;
        this.#mayLose = false;
        await this.#store.lose(step.do);
        // So is a node that starts before any other has reported.
        return this.#report(0, true);
    }
  }

  /** Fewer reports than nodes send in five seconds. */
  async settle(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      for (const at of this.#nodes.keys()) await this.#report(at, true);
    }
  }

  async #report(at: number, answered: boolean): Promise<void> {
    const reporting = this.#nodes[at];
    if (!reporting) return;
    const { sharePerSecond } = await this.#store.registry.report(
      nodeReport({ instance: reporting.instance, admissionWeight: reporting.weight }),
      { budgetPerSecond, heldPerSecond: reporting.held },
    );
    if (answered) reporting.held = sharePerSecond;
    this.mostHeld = Math.max(this.mostHeld, this.#held);
  }
}

async function run(store: Store, steps: readonly Step[]): Promise<void> {
  const fleet = new Fleet(store);
  const settled: Step[] = [
    { do: "join", weight: 1 },
    { do: "join", weight: 2 },
    { do: "five seconds" },
    { do: "beats" },
  ];
  for (const step of [...settled, ...steps]) {
    await fleet.act(step);
    expect(fleet.mostHeld).toBeLessThanOrEqual(budgetPerSecond);
  }
  await fleet.act({ do: "five seconds" });
  await fleet.settle();
  const weights = fleet.nodes.reduce((sum, known) => sum + known.weight, 0);
  for (const known of fleet.nodes) {
    expect(known.held).toBeCloseTo(weights > 0 ? (0.9 * budgetPerSecond * known.weight) / weights : 0, 1);
  }
}

function inMemory(): Store {
  return { registry: new MemoryNodeRegistry(), pass: async () => {}, remember: async () => {}, lose: async () => {} };
}

async function onRedis(): Promise<Store> {
  await client.flushall();
  return {
    registry: new RedisNodeRegistry(new Cells(store.connections)),
    pass: async (alive) => {
      for (const known of await client.zrange(key("heard"), "0", "-1")) {
        if (!alive.includes(known)) await client.zadd(key("heard"), 1, known);
      }
      if ((await client.exists(key("fleet"))) === 1) await client.hset(key("fleet"), "settled", "0");
    },
    remember: async () => {
      for (const name of names) {
        await client.del(key(`copy-of-${name}`));
        await client.copy(key(name), key(`copy-of-${name}`));
      }
    },
    lose: async (kind) => {
      for (const name of names) {
        await client.del(key(name));
        if (kind === "lose the latest writes") await client.copy(key(`copy-of-${name}`), key(name));
      }
      // The new primary has another replication id.
      if ((await client.exists(key("fleet"))) === 1) await client.hset(key("fleet"), "replid", "another");
    },
  };
}

test("NODE-2: in one process shares stay within the budget and settle by weight", async () => {
  const steps = fc.array(
    fc.oneof(
      { weight: 6, arbitrary: report },
      { weight: 3, arbitrary: join },
      fc.record({ do: fc.constant("leave" as const), node }),
    ),
    {
      maxLength: 60,
    },
  );
  await fc.assert(
    fc.asyncProperty(steps, async (given) => run(inMemory(), given)),
    { numRuns: 300 },
  );
});

test("NODE-2: shares stay within the budget through joins, losses and lost memory", async () => {
  const steps = fc.array(
    fc.oneof(
      { weight: 8, arbitrary: report },
      { weight: 3, arbitrary: join },
      { weight: 2, arbitrary: end },
      { weight: 2, arbitrary: whole("beats", "five seconds", "remember", "lose memory", "lose the latest writes") },
    ),
    { maxLength: 60 },
  );
  await fc.assert(
    fc.asyncProperty(steps, async (given) => run(await onRedis(), given)),
    { numRuns: 250 },
  );
});
