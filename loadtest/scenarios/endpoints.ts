/**
 * How soon a change reaches every endpoint that wants it, with dead and slow endpoints among them.
 *
 *   npm run loadtest -- endpoints [--json]
 *   ENDPOINTS (1000) EACH (10 endpoints want the same channels) SECONDS (20 for each phase) RATE (changes/s; 0: half of what it takes)
 *   CHANNELS (20 for each group of endpoints) BURST (1000 changes) SLOW_MS (2000) ORIGINS (100) POLL_MS (500; 0 leaves the old way out)
 *
 * Real Redis, one private API, and the endpoints in one process, which checks that each gets every change once and in order. Bursts tell how many
 * deliveries a second it takes; then at a steady rate: all that are live; the same with 1 % dead ones (half refuse the connection, half never
 * answer) and 5 % slow ones; the live ones again; changes that every endpoint wants; one endpoint; and the old way, where each endpoint has a
 * reader that polls. A bare POST with the same signature, headers, origins and number of connections is measured in this process. Verdicts: order,
 * reads of the log, the P90 of live endpoints, their p99 beside dead and slow ones, the CPU of a delivery.
 */
import { randomBytes } from "node:crypto";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { barePostMicros, PollingReaders } from "../rig/bare-posts.ts";
import { EndpointBench, type Phase } from "../rig/endpoint-bench.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { HookSink, type ServiceFigures } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  endpoints: parameter("ENDPOINTS", 1_000, 20, 5_000),
  each: parameter("EACH", 10, 1, 5_000),
  seconds: parameter("SECONDS", 20, 1, 600),
  rate: parameter("RATE", 0, 0, 10_000),
  channels: parameter("CHANNELS", 20, 1, 1_000),
  burst: parameter("BURST", 1_000, 1, 10_000),
  slowMs: parameter("SLOW_MS", 2_000, 0, 10_000),
  origins: parameter("ORIGINS", 100, 1, 1_000),
  pollMs: parameter("POLL_MS", 500, 0, 10_000),
};
const deadShare = 0.01;
const slowShare = 0.05;
const warmUps = 3;
const bursts = 3;
const barePosts = 20_000;
const maxP90Ms = 50;
const maxCpuRatio = 1.5;
const maxReadDifference = 0.1;
/** Of a p99, from one phase to another that is the same. */
const noise = 1.2;

interface Measured {
  readonly one: Phase;
  readonly burst: Phase;
  /** Without the dead and slow ones: before and after them. */
  readonly alone: readonly [Phase, Phase];
  readonly mixed: Phase;
  readonly toAll: Phase;
  readonly polled: Phase | undefined;
  readonly bareMicros: number;
  readonly received: ServiceFigures;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const { slowMs, origins, endpoints, each, channels } = parameters;
  const sink = new HookSink({ slowMs, origins });
  const token = randomBytes(32).toString("base64url");
  const deployment = await fleet.start({
    gateways: 0,
    privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
    moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
  });
  const cohorts = Math.max(1, Math.round(endpoints / each));
  const bench = new EndpointBench({ deployment, token, sink, cohorts, channels });
  try {
    await putRules(deployment, { namespaces: { load: { changes: true, historySize: 0 } } });
    return report(await measure(bench, sink, deployment));
  } finally {
    bench.stop();
    await sink.stop();
  }
}

async function measure(bench: EndpointBench, sink: HookSink, deployment: OwnDeployment): Promise<Measured> {
  const { endpoints, each, seconds, pollMs } = parameters;
  const dead = Math.max(2, Math.round(endpoints * deadShare));
  const slow = Math.max(1, Math.round(endpoints * slowShare));
  const live = endpoints - dead - slow;
  say(`${live} live endpoints`);
  await bench.create("live", live);
  const burst = await burstOf(bench);
  const perSecond = parameters.rate || (burst.perSecond / 2) * (burst.changes / burst.deliveries);
  const load = { perSecond, changes: Math.max(5, Math.round(perSecond * seconds)) };
  say(
    `${burst.perSecond.toFixed(0)} deliveries a second in a burst; ${perSecond.toFixed(1)} changes a second from here on`,
  );
  const before = await bench.measure("before", load);
  say(`with ${dead} dead and ${slow} slow ones`);
  await bench.create("dead", Math.floor(dead / 2));
  await bench.create("silent", Math.ceil(dead / 2));
  await bench.create("slow", slow);
  const mixed = await bench.measure("mixed", load);
  for (const kind of ["dead", "silent", "slow"] as const) await bench.remove(kind);
  const after = await bench.measure("after", load);
  say("changes for all");
  const rateToAll = (perSecond * each) / endpoints;
  const changesToAll = Math.max(5, Math.round(rateToAll * seconds));
  const toAll = await bench.measure("all", { perSecond: rateToAll, changes: changesToAll, toAll: true });
  say("one endpoint");
  await bench.remove("live", 1);
  const one = await bench.measure("one", load);
  await bench.remove("live");
  let polled: Phase | undefined;
  if (pollMs > 0) {
    say("the old way");
    const { redisUrl } = deployment;
    const readers = new PollingReaders({ redisUrl, urls: await sink.urls(), logOf: (n) => bench.prefixOf(n), pollMs });
    readers.start(live);
    const publish = async (channel: string, change: object): Promise<void> =>
      readers.publish(channel.slice(0, channel.lastIndexOf(":") + 1), change);
    polled = await bench.measure("polled", { ...load, publish }, [live]);
    await readers.stop();
  }
  const received = await sink.figures();
  say("bare posts");
  const atOnce = Math.max(1, burst.connections);
  const bareMicros = await barePostMicros({ urls: await sink.urls(), posts: barePosts, atOnce });
  return { one, burst, alone: [before, after], mixed, toAll, polled, bareMicros, received };
}

/** The one in the middle, once the programs are warm. */
async function burstOf(bench: EndpointBench): Promise<Phase> {
  const measured: Phase[] = [];
  for (let n = 0; n < warmUps + bursts; n++) {
    const name = `burst${"abcdefgh"[n]}`;
    measured.push(await bench.measure(name, { perSecond: Infinity, changes: parameters.burst }));
  }
  const sorted = measured.slice(warmUps).sort((a, b) => a.perSecond - b.perSecond);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (!middle) throw new Error("there was no burst");
  return middle;
}

function report({ one, burst, alone, mixed, toAll, polled, bareMicros, received }: Measured): ScenarioReport {
  const [before, after] = alone;
  const readRatio = readsPerSecond(before) / readsPerSecond(one);
  // Neither waits: what waking up costs is in neither figure.
  const cpuRatio = microsOf(burst.apiCpuMs, burst.deliveries) / bareMicros;
  const withRedis = microsOf(burst.apiCpuMs + burst.redis.cpuMs, burst.deliveries) / bareMicros;
  const p90 = mixed.liveMs.percentile(0.9);
  const p99 = mixed.liveMs.percentile(0.99);
  const p99Alone = Math.max(before.liveMs.percentile(0.99), after.liveMs.percentile(0.99));
  return {
    scenario: "endpoints",
    parameters,
    figures: {
      "deliveries/s in a burst": Math.round(burst.perSecond),
      "changes/s": fixed((before.perSecond * before.changes) / before.deliveries),
      connections: burst.connections,
      "CPU of a bare signed POST, µs": fixed(bareMicros),
      "CPU of a delivery in a burst, µs: private API": fixed(microsOf(burst.apiCpuMs, burst.deliveries)),
      "CPU of a delivery in a burst, µs: Redis": fixed(microsOf(burst.redis.cpuMs, burst.deliveries)),
      "CPU of a delivery with Redis, of a bare POST": `× ${withRedis.toFixed(2)}`,
      "slow endpoints, p99 until the request came, ms": fixed(mixed.slowMs.percentile(0.99)),
      ...(polled && {
        "CPU of the old way's publisher, readers and POSTs, µs per delivery": fixed(
          microsOf(polled.ownCpuMs, polled.deliveries),
        ),
      }),
    },
    tables: [
      {
        columns: ["", "changes", "deliveries", "p50, ms", "p90", "p99", "longest", "reads of the log/s", ...costs],
        rows: [
          row("live endpoints, before", before),
          row("with dead and slow ones", mixed),
          row("live endpoints, after", after),
          row("each change for all", toAll),
          row("one endpoint", one),
          ...(polled ? [row("the old way: each polls", polled)] : []),
        ],
      },
    ],
    verdicts: [
      {
        title: "each change reaches each endpoint that answers once, in order of its channel",
        pass: received.repeats + received.disordered === 0,
        value: `${received.repeats} repeats, ${received.disordered} out of order`,
      },
      {
        title: "the log is read as often for all endpoints as for one, up to a tenth more",
        pass: readRatio <= 1 + maxReadDifference,
        value: `× ${readRatio.toFixed(2)}`,
      },
      {
        title: `nine of ten changes reach live endpoints beside dead and slow ones within ${maxP90Ms} ms`,
        pass: p90 <= maxP90Ms,
        value: `${fixed(p90)} ms`,
      },
      {
        title: `dead and slow endpoints move the p99 of live ones by less than × ${noise}`,
        pass: p99 <= noise * p99Alone,
        value: `${fixed(p99)} and ${fixed(p99Alone)} ms`,
      },
      {
        title: `a delivery takes the private API at most ${maxCpuRatio} times the CPU of a bare signed POST`,
        pass: cpuRatio <= maxCpuRatio,
        value: `× ${cpuRatio.toFixed(2)}`,
      },
    ],
  };
}

const costs = ["private API, µs per delivery", "Redis"];

function row(title: string, phase: Phase): (string | number)[] {
  const { changes, deliveries, liveMs, apiCpuMs, redis } = phase;
  return [
    title,
    changes,
    deliveries,
    ...[0.5, 0.9, 0.99].map((share) => fixed(liveMs.percentile(share))),
    fixed(liveMs.max),
    fixed(readsPerSecond(phase)),
    fixed(microsOf(apiCpuMs, deliveries)),
    fixed(microsOf(redis.cpuMs, deliveries)),
  ];
}

function readsPerSecond({ redis, seconds }: Phase): number {
  return (redis.callsByCommand["xrange"] ?? 0) / seconds;
}

function microsOf(cpuMs: number, deliveries: number): number {
  return (cpuMs * 1_000) / deliveries;
}

function fixed(value: number): number {
  return Number(value.toFixed(1));
}

await runScenario(run);
