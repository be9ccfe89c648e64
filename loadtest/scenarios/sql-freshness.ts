/**
 * How soon a row of a SQL source reaches an endpoint after its commit, and what it costs, with many shards.
 *
 *   npm run loadtest -- sql-freshness [--json]
 *   SHARDS (100) MARIADB (0; 1: in place of PostgreSQL) NOTIFY (1; 0: PostgreSQL without notifications) SECONDS (20 for each phase)
 *   RATE (rows/s; 0: half of what it takes) BURST (5000 rows) CHANNELS (5 for each shard) POLL_MS (250; 0 leaves the old way out) IDLE_SECONDS (10)
 *
 * Each shard is a database of one server. An application in this process writes each row in a transaction of its own, by the function of the kit. One
 * private API reads the shards, publishes the rows, and posts them to endpoints, one for each shard, which are another process and check that each row
 * comes once and in order. First every shard is written to as fast as it commits: half of what arrives is the rate of the next phases, of which the second
 * one has a clock at each stage. Then nothing is written. Last the old way at the same rate: each endpoint has a poller of its own (`id > pointer`) in
 * this process. The time is from before the statement that commits until the endpoint has the request. PostgreSQL counts the receipt of a notice as a
 * statement, too. Verdicts: order, the P90 on PostgreSQL.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import type { Histogram } from "../checks/histogram.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { PollingReaders } from "../rig/polling-readers.ts";
import { DeliveryTracer, type Stage } from "../rig/delivery-stages.ts";
import { EndpointBench, type Phase } from "../rig/endpoint-bench.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { HookSink, type ServiceFigures } from "../rig/hook-sink.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { RedisUseReader, useSince } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { SqlShards } from "../rig/sql-shards.ts";

const parameters = {
  shards: parameter("SHARDS", 100, 1, 500),
  mariaDb: parameter("MARIADB", 0, 0, 1),
  notify: parameter("NOTIFY", 1, 0, 1),
  seconds: parameter("SECONDS", 20, 1, 120),
  rate: parameter("RATE", 0, 0, 10_000),
  burst: parameter("BURST", 5_000, 100, 100_000),
  channels: parameter("CHANNELS", 5, 1, 1_000),
  pollMs: parameter("POLL_MS", 250, 0, 10_000),
  idleSeconds: parameter("IDLE_SECONDS", 10, 1, 120),
};
const maxP90Ms = 50;
/** Until both programs run compiled code. */
const warmUps = 2;
/** After the last row, until the readers ask as rarely as they ever do. */
const settleMs = 3_000;
/** Above what any machine takes: each write follows the one before it. */
const asFastAsPossible = 1e9;

interface Rig {
  readonly deployment: OwnDeployment;
  readonly shards: SqlShards;
  readonly bench: EndpointBench;
  readonly sink: HookSink;
  readonly tracer: DeliveryTracer;
}

/** A phase, with what the server of the databases did meanwhile. */
interface MeasuredPhase extends Phase {
  readonly statements: number;
  readonly readerCpuMs: number;
}

interface Idle {
  readonly statementsPerSecond: number;
  readonly redisCallsPerSecond: number;
  /** Of one core. */
  readonly apiShare: number;
  readonly redisShare: number;
  readonly readerShare: number;
  /** Sessions that read. */
  readonly readers: number;
}

interface Measured {
  readonly full: MeasuredPhase;
  readonly half: MeasuredPhase;
  /** At half capacity, once more: the clocks take some CPU. */
  readonly stages: ReadonlyMap<Stage, Histogram>;
  readonly polled: MeasuredPhase | undefined;
  readonly idle: Idle;
  readonly received: ServiceFigures;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const { shards: count, channels } = parameters;
  const notify = parameters.notify === 1;
  const driver = parameters.mariaDb === 1 ? "mysql" : "postgres";
  say(`starting ${driver} with ${count} databases`);
  const shards = await SqlShards.start(driver, { count, notify });
  const sink = new HookSink({ origins: count });
  const tracer = await DeliveryTracer.create();
  try {
    const token = randomBytes(32).toString("base64url");
    const deployment = await fleet.start({
      gateways: 0,
      privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8", ...shards.urls, ...tracer.settings },
      moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
      nodeFlags: tracer.nodeFlags,
    });
    const bench = new EndpointBench({ deployment, token, sink, cohorts: count, channels });
    try {
      return report(await measure({ deployment, shards, bench, sink, tracer }));
    } finally {
      bench.stop();
    }
  } finally {
    await sink.stop();
    await shards.stop();
  }
}

async function measure(rig: Rig): Promise<Measured> {
  const { deployment, shards, bench, sink, tracer } = rig;
  const { seconds, burst, pollMs } = parameters;
  const notify = shards.driver === "postgres" && parameters.notify === 1 && { notify: "tidegate" };
  const rows = { driver: shards.driver, url: Object.keys(shards.urls).map((name) => `env:${name}`), ...notify };
  await putRules(deployment, {
    namespaces: { load: { changes: true, historySize: 0 } },
    sqlSources: {
      load: { ...rows, table: "transactions", channel: "load:{account_id}", event: "moved", data: "payload" },
    },
  });
  await bench.create("live", parameters.shards);
  await eventually(async () => areLive(deployment));
  const publish = async (channel: string, change: object): Promise<void> => {
    const account = channel.slice("load:".length);
    const payload = JSON.stringify((change as { data: object }).data);
    await shards.write(Number(account.split(":")[0]), { account, payload });
  };
  const phase = async (name: string, perSecond: number, changes: number): Promise<MeasuredPhase> => {
    const before = await shards.use();
    const measured = await bench.measure(name, { perSecond, changes, publish });
    const after = await shards.use();
    return {
      ...measured,
      statements: after.statements - before.statements,
      readerCpuMs: after.readerCpuMs - before.readerCpuMs,
    };
  };
  say("as fast as it commits");
  for (let n = 0; n < warmUps; n++) await phase(`warm${"ab"[n]}`, asFastAsPossible, burst);
  const full = await phase("full", asFastAsPossible, burst);
  const perSecond = parameters.rate || full.perSecond / 2;
  const changes = Math.max(10, Math.round(perSecond * seconds));
  say(`${full.perSecond.toFixed(0)} rows a second; ${perSecond.toFixed(0)} from here on`);
  const half = await phase("half", perSecond, changes);
  const api = deployment.processes.find(({ role }) => role === "private-api");
  const stages = await tracer.trace(api?.pid ?? 0, async () => phase("traced", perSecond, Math.ceil(changes / 2)));
  say("nothing is written");
  const idle = await measureIdle(rig);
  await putRules(deployment, {});
  await eventually(async () => (await shards.use()).readers === 0);
  let polled: MeasuredPhase | undefined;
  if (pollMs > 0) {
    say("the old way");
    await bench.remove("live");
    const readers = new PollingReaders({ logs: shards, urls: await sink.urls(), pollMs });
    await readers.start(parameters.shards);
    const before = await shards.use();
    const load = { perSecond, changes, publish };
    const measured = await bench.measure("polled", load, [parameters.shards]);
    const { statements } = await shards.use();
    polled = { ...measured, statements: statements - before.statements, readerCpuMs: 0 };
    await readers.stop();
  }
  return { full, half, stages, polled, idle, received: await sink.figures() };
}

async function areLive(deployment: OwnDeployment): Promise<boolean> {
  const { sources } = (await callPrivateApi(deployment, "GET", "/v1/sql-sources", undefined)) as {
    sources: { shards: { state: string }[] }[];
  };
  const states = sources.flatMap(({ shards }) => shards.map(({ state }) => state));
  return states.length === parameters.shards && states.every((state) => state === "live");
}

async function measureIdle({ deployment, shards }: Rig): Promise<Idle> {
  await pause(settleMs);
  const redis = new RedisUseReader(deployment.redisUrl);
  const apiMs = (): number => cpuMsByRole(deployment.processes).get("private-api") ?? 0;
  const before = { redis: await redis.read(), apiMs: apiMs(), server: await shards.use() };
  const from = performance.now();
  await pause(parameters.idleSeconds * 1_000);
  const use = useSince(before.redis, await redis.read());
  const server = await shards.use();
  const ms = performance.now() - from;
  redis.stop();
  return {
    statementsPerSecond: ((server.statements - before.server.statements) / ms) * 1_000,
    redisCallsPerSecond: (use.roundTrips / ms) * 1_000,
    apiShare: (apiMs() - before.apiMs) / ms,
    redisShare: use.cpuMs / ms,
    readerShare: (server.readerCpuMs - before.server.readerCpuMs) / ms,
    readers: server.readers,
  };
}

function report({ full, half, stages, polled, idle, received }: Measured): ScenarioReport {
  const micros = (ms: number, { changes }: Phase): number => fixed((ms * 1_000) / changes);
  const row = (title: string, phase: MeasuredPhase): (string | number)[] => [
    title,
    phase.changes,
    Math.round(phase.perSecond),
    ...percentilesOf(phase.liveMs),
    fixed(phase.liveMs.max),
    micros(phase.apiCpuMs, phase),
    micros(phase.redis.cpuMs, phase),
    micros(phase.readerCpuMs, phase),
    fixed((phase.statements - phase.changes) / phase.changes),
  ];
  const perCore = (phase: Phase): number => Math.round((phase.changes / (phase.apiCpuMs + phase.redis.cpuMs)) * 1_000);
  const p90 = half.liveMs.percentile(0.9);
  const freshness: Verdict = {
    title: `nine of ten rows reach their endpoint within ${maxP90Ms} ms at half capacity`,
    pass: p90 <= maxP90Ms,
    value: `${fixed(p90)} ms`,
  };
  return {
    scenario: "sql-freshness",
    parameters,
    figures: {
      "rows/s per core of private API and Redis, as fast as it commits": perCore(full),
      "rows/s per core of private API and Redis, at half capacity": perCore(half),
      ...(polled && { "CPU of the application and the old way, µs per row": micros(polled.ownCpuMs, polled) }),
      "CPU of the application alone, µs per row": micros(half.ownCpuMs, half),
      "sessions that read": idle.readers,
      "idle: statements/s": fixed(idle.statementsPerSecond),
      "idle: calls of Redis/s": fixed(idle.redisCallsPerSecond),
      "idle: private API, % of a core": fixed(idle.apiShare * 100),
      "idle: Redis, % of a core": fixed(idle.redisShare * 100),
      "idle: sessions that read (PostgreSQL), % of a core": fixed(idle.readerShare * 100),
    },
    tables: [
      {
        columns: [
          ...["", "rows", "rows/s", "p50, ms", "p90", "p99", "longest", "private API, µs per row", "Redis"],
          ...["reading sessions (PostgreSQL)", "statements beside the writes"],
        ],
        rows: [
          row("as fast as it commits", full),
          row("at half capacity", half),
          ...(polled ? [row("the old way: each endpoint polls", polled)] : []),
        ],
      },
      {
        columns: ["at half capacity", "p50, ms", "p90", "p99"],
        rows: [...stages].map(([stage, histogram]) => [stage, ...percentilesOf(histogram)]),
      },
    ],
    verdicts: [
      {
        title: "each row reaches its endpoint once, in order of its channel",
        pass: received.repeats + received.disordered === 0,
        value: `${received.repeats} repeats, ${received.disordered} out of order`,
      },
      ...(parameters.mariaDb === 1 ? [] : [freshness]),
    ],
  };
}

function percentilesOf(histogram: Histogram): number[] {
  return [0.5, 0.9, 0.99].map((share) => fixed(histogram.percentile(share)));
}

function fixed(value: number): number {
  return Number(value.toFixed(1));
}

await runScenario(run);
