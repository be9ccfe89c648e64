/**
 * The time from the election of another Redis primary until publishes and reads work again.
 *
 *   npm run loadtest -- failover [--json]
 *   FAILOVERS (20) NODES (6)
 *
 * Nodes with their own connections publish and read every 10 ms while failovers under Sentinel follow each other. The
 * kinds of failover take turns; they differ in what happens to the former primary. Fails where a node does not recover.
 */
import { setTimeout as pause } from "node:timers/promises";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../../test/support/eventually.ts";
import { asked, dieAhead, freezeReplicas } from "../../test/support/redis-failover.ts";
import { type RedisSentinel, startRedisSentinel } from "../../test/support/redis-sentinel.ts";
import type { RedisServer } from "../../test/support/redis.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const failovers = parameter("FAILOVERS", 20, 1, 500);
const nodes = parameter("NODES", 6, 1, 50);

/** Between two operations of a node. */
const everyMs = 10;
/** An operation that takes longer counts as delayed, even if it succeeds. */
const delayedMs = 500;
/** After each failover: a node whose operations fail later than this has not recovered. */
const watchMs = 6_000;
const giveUpMs = 60_000;

const channel = "load:failover";
const retention = { historySize: 100, historySeconds: 300 };
const operations = ["publish", "read"] as const;
type OperationName = (typeof operations)[number];

interface FailoverKind {
  readonly title: string;
  begin(former: RedisServer): Promise<void>;
  /** After the election. */
  end(former: RedisServer, primary: RedisServer): Promise<void>;
}

/** One node that publishes and reads all the time. */
class Prober {
  readonly #connections: RedisConnections;
  readonly #broker: RedisBroker;
  readonly #running: Promise<void>[] = [];
  #stopped = false;
  /** When the last failed or delayed operation ended; by `performance.now()`. */
  readonly troubledUntil: Record<OperationName, number> = { publish: 0, read: 0 };
  /** When the node was last not fully ready; by `performance.now()`. */
  notOkUntil = 0;

  constructor(target: RedisSentinel["target"]) {
    const logger = createLogger({ name: "failover", level: "silent" });
    this.#connections = new RedisConnections({ target, errors: new ContainedErrors(logger), logger });
    this.#broker = new RedisBroker({ cells: new Cells(this.#connections), logger });
  }

  async start(): Promise<void> {
    await this.#connections.start();
    await this.#broker.start();
    await this.#broker.follow({ kind: "channel", name: channel });
    await eventually(() => this.#connections.state === "ok", giveUpMs);
    this.#running.push(
      this.#repeat("publish", () => this.#broker.publish({ channel, event: "n", data: "1", retention })),
      this.#repeat("read", () => this.#broker.readHistory({ channel, retention, limit: 1, maxBytes: 1_000 })),
      this.#watchState(),
    );
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    await this.#broker.stop();
    await this.#connections.stop();
  }

  async #repeat(name: OperationName, run: () => Promise<unknown>): Promise<void> {
    while (!this.#stopped) {
      const startedAt = performance.now();
      const ok = await run().then(
        () => true,
        () => false,
      );
      const endedAt = performance.now();
      if (!ok || endedAt - startedAt > delayedMs) this.troubledUntil[name] = endedAt;
      await pause(everyMs);
    }
  }

  async #watchState(): Promise<void> {
    while (!this.#stopped) {
      if (this.#connections.state !== "ok") this.notOkUntil = performance.now();
      await pause(everyMs);
    }
  }
}

function kindsOf(redis: RedisSentinel): FailoverKind[] {
  const [sentinelUrl = ""] = redis.target.sentinels;
  return [
    {
      title: "killed, back later as a replica",
      begin: (former) => former.kill(),
      end: async () => undefined,
    },
    {
      title: "hangs, wakes up later",
      begin: async (former) => former.signal("SIGSTOP"),
      end: async (former) => {
        await pause(watchMs / 2);
        former.signal("SIGCONT");
      },
    },
    {
      title: "killed ahead of its replica",
      begin: async (former) => {
        const replicas = redis.servers.filter((server) => server !== former);
        await freezeReplicas(former, replicas);
        // Shorter than the time after which the sentinels consider a frozen replica down.
        await pause(300);
        await dieAhead(former, replicas);
      },
      end: async () => undefined,
    },
    {
      title: "ordered (SENTINEL FAILOVER)",
      begin: async () => {
        const port = Number(sentinelUrl.slice(sentinelUrl.lastIndexOf(":") + 1));
        const sentinel = { url: `redis://127.0.0.1:${port}` };
        // Sentinel refuses the order for a while after the previous failover.
        await eventually(async () => {
          const order = asked(sentinel, (client) => client.call("SENTINEL", "FAILOVER", redis.target.master));
          return order.then(
            () => true,
            () => false,
          );
        }, giveUpMs);
      },
      end: async () => undefined,
    },
    {
      title: "killed, back at once as a primary",
      begin: (former) => former.kill(),
      end: (former) => former.restart(),
    },
  ];
}

/** Resolves once a sentinel names another primary that takes writes. @returns it, and the moment by `performance.now()`. */
async function elected(redis: RedisSentinel, former: RedisServer): Promise<[RedisServer, number]> {
  let primary: RedisServer | undefined;
  const sentinels = redis.target.sentinels.map((address) => ({ url: `redis://${address}` }));
  await eventually(async () => {
    const named = await Promise.all(
      sentinels.map((sentinel) =>
        asked(sentinel, (client) => client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", redis.target.master)).catch(
          () => undefined,
        ),
      ),
    );
    const ports = new Set(named.map((answer) => Number((answer as [string, string] | undefined)?.[1])));
    primary = redis.servers.find(({ port }) => port !== former.port && ports.has(port));
    return primary !== undefined && (await asked(primary, (client) => client.role()))[0] === "master";
  }, giveUpMs);
  return [primary as RedisServer, performance.now()];
}

async function run(): Promise<ScenarioReport> {
  say(`starting a primary, a replica, three sentinels and ${nodes} nodes`);
  const redis = await startRedisSentinel();
  const probers = Array.from({ length: nodes }, () => new Prober(redis.target));
  await Promise.all(probers.map((prober) => prober.start()));
  const kinds = kindsOf(redis);
  const measured = new Map<string, Measured>(kinds.map(({ title }) => [title, { publish: [], read: [], ready: [] }]));
  let notRecovered = 0;
  for (let n = 0; n < failovers; n++) {
    const kind = kinds[n % kinds.length] as FailoverKind;
    await redis.whole();
    await pause(watchMs / 2);
    const former = await redis.primary();
    await kind.begin(former);
    const [primary, electedAt] = await elected(redis, former);
    await kind.end(former, primary);
    await pause(watchMs);
    const row = measured.get(kind.title) as Measured;
    const since = (at: number): number => Math.max(0, at - electedAt);
    for (const { troubledUntil, notOkUntil } of probers) {
      row.publish.push(since(troubledUntil.publish));
      row.read.push(since(troubledUntil.read));
      row.ready.push(since(notOkUntil));
      if (performance.now() - Math.max(troubledUntil.publish, troubledUntil.read) < 1_000) notRecovered++;
    }
    const last = row.publish.slice(-nodes).map((ms) => ms.toFixed(0));
    say(`${n + 1} of ${failovers}: ${kind.title}: publishes work after ${last.join(", ")} ms`);
  }
  await Promise.all(probers.map((prober) => prober.stop()));
  await redis.stop();
  const rows = [...measured].filter(([, { publish }]) => publish.length > 0);
  const all = rows.map(([, row]) => row);
  const whole: Measured = {
    publish: all.flatMap(({ publish }) => publish),
    read: all.flatMap(({ read }) => read),
    ready: all.flatMap(({ ready }) => ready),
  };
  return {
    scenario: "failover",
    parameters: { failovers, nodes },
    figures: {},
    tables: [
      {
        columns: ["ms from the election until: p50 / p95 / longest", "publishes", "reads", "fully ready"],
        rows: [...rows, ["all", whole] as const].map(([title, { publish, read, ready }]) => [
          title,
          ...[publish, read, ready].map(spread),
        ]),
      },
    ],
    verdicts: [{ title: "every node recovered from every failover", pass: notRecovered === 0, value: notRecovered }],
  };
}

interface Measured {
  publish: number[];
  read: number[];
  ready: number[];
}

function spread(values: number[]): string {
  return [0.5, 0.95, 1].map((share) => percentile(values, share).toFixed(0)).join(" / ");
}

await runScenario(run);
