/**
 * How soon a change reaches every endpoint that wants it, with dead and slow endpoints among them.
 *
 *   npm run loadtest -- endpoints [--json]
 *   ENDPOINTS (200) SECONDS (15 for each phase) RATE (changes/s; 0: half of what it takes) CHANNELS (20) BURST (20 changes) SLOW_MS (2000)
 *   POLL_MS (500; 0 leaves the old way out)
 *
 * Real Redis, one private API, and the endpoints in one process, which checks that each gets every change once and in order. A burst tells how many
 * deliveries a second it takes; then at a steady rate: all that are live; the same with 1 % dead ones (half refuse the connection, half never
 * answer) and 5 % slow ones; the live ones again; one endpoint; and the old way, where each endpoint has a reader that polls. A bare POST with the
 * same signature is measured in this process. Verdicts: order, reads of the log, the P90 of live endpoints, the CPU of a delivery.
 */
import { randomBytes } from "node:crypto";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { barePostMicros, PollingReaders } from "../rig/bare-posts.ts";
import { EndpointBench, type Phase } from "../rig/endpoint-bench.ts";
import type { Fleet } from "../rig/fleet.ts";
import { HookSink, type ServiceFigures } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  endpoints: parameter("ENDPOINTS", 200, 20, 5_000),
  seconds: parameter("SECONDS", 15, 1, 600),
  rate: parameter("RATE", 0, 0, 1_000),
  channels: parameter("CHANNELS", 20, 1, 1_000),
  burst: parameter("BURST", 20, 1, 500),
  slowMs: parameter("SLOW_MS", 2_000, 0, 10_000),
  pollMs: parameter("POLL_MS", 500, 0, 10_000),
};
const deadShare = 0.01;
const slowShare = 0.05;
const barePosts = 20_000;
const barePostsAtOnce = 64;
const maxP90Ms = 50;
const maxCpuRatio = 1.5;
const maxReadDifference = 0.1;

interface Measured {
  readonly one: Phase;
  readonly burst: Phase;
  /** Without the dead and slow ones: before and after them. */
  readonly alone: readonly [Phase, Phase];
  readonly mixed: Phase;
  readonly polled: Phase | undefined;
  readonly bareMicros: number;
  readonly received: ServiceFigures;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const sink = new HookSink({ slowMs: parameters.slowMs });
  const token = randomBytes(32).toString("base64url");
  const deployment = await fleet.start({
    gateways: 0,
    privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
    moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
  });
  const bench = new EndpointBench({ deployment, token, sink, channels: parameters.channels });
  try {
    await putRules(deployment, { namespaces: { load: { changes: true, historySize: 0 } } });
    return report(await measure(bench, sink, deployment));
  } finally {
    bench.stop();
    await sink.stop();
  }
}

async function measure(
  bench: EndpointBench,
  sink: HookSink,
  deployment: Awaited<ReturnType<Fleet["start"]>>,
): Promise<Measured> {
  const { endpoints, seconds, pollMs, burst: burstChanges } = parameters;
  const dead = Math.max(2, Math.round(endpoints * deadShare));
  const slow = Math.max(1, Math.round(endpoints * slowShare));
  const live = endpoints - dead - slow;
  say(`${live} live endpoints`);
  await bench.create("live", live);
  await bench.measure("warm-up", { perSecond: Infinity, changes: burstChanges });
  const burst = await bench.measure("burst", { perSecond: Infinity, changes: burstChanges });
  const perSecond = parameters.rate || burst.perSecond / 2 / endpoints;
  const load = { perSecond, changes: Math.max(5, Math.round(perSecond * seconds)) };
  say(
    `${burst.perSecond.toFixed(0)} deliveries a second in a burst; ${perSecond.toFixed(2)} changes a second from here on`,
  );
  const before = await bench.measure("before", load);
  say(`with ${dead} dead and ${slow} slow ones`);
  await bench.create("dead", Math.floor(dead / 2));
  await bench.create("silent", Math.ceil(dead / 2));
  await bench.create("slow", slow);
  const mixed = await bench.measure("mixed", load);
  for (const kind of ["dead", "silent", "slow"] as const) await bench.remove(kind);
  const after = await bench.measure("after", load);
  say("one endpoint");
  await bench.remove("live", 1);
  const one = await bench.measure("one", load);
  await bench.remove("live");
  let polled: Phase | undefined;
  if (pollMs > 0) {
    say("the old way");
    const readers = new PollingReaders(deployment, { url: await sink.url(), pollMs });
    await readers.start(live);
    polled = await bench.measure("polled", load, live);
    await readers.stop();
  }
  const received = await sink.figures();
  say("bare posts");
  const bareMicros = await barePostMicros(await sink.url(), barePosts, barePostsAtOnce);
  return { one, burst, alone: [before, after], mixed, polled, bareMicros, received };
}

function report({ one, burst, alone, mixed, polled, bareMicros, received }: Measured): ScenarioReport {
  const [before, after] = alone;
  const reads = ({ redis, changes }: Phase): number => (redis.callsByCommand["xrange"] ?? 0) / changes;
  const readRatio = reads(before) / reads(one);
  // Neither waits: what waking up costs is in neither figure.
  const cpuRatio = microsOf(burst.apiCpuMs, burst.deliveries) / bareMicros;
  const p90 = mixed.liveMs.percentile(0.9);
  return {
    scenario: "endpoints",
    parameters,
    figures: {
      "deliveries/s in a burst": Math.round(burst.perSecond),
      "changes/s": Number(((before.perSecond * before.changes) / before.deliveries).toFixed(2)),
      "CPU of a bare signed POST, µs": fixed(bareMicros),
      "CPU of the private API for a delivery, in a burst, µs": fixed(microsOf(burst.apiCpuMs, burst.deliveries)),
      "slow endpoints, p99 until the request came, ms": fixed(mixed.slowMs.percentile(0.99)),
    },
    tables: [
      {
        columns: [
          "",
          "changes",
          "deliveries",
          "p50, ms",
          "p90",
          "p99",
          "longest",
          "reads of the log per change",
          ...costs,
        ],
        rows: [
          row("live endpoints, before", before, reads),
          row("with dead and slow ones", mixed, reads),
          row("live endpoints, after", after, reads),
          row("one endpoint", one, reads),
          ...(polled ? [row("the old way: each polls", polled, reads)] : []),
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
        title: "a change is read as often for all endpoints as for one, within a tenth",
        pass: Math.abs(readRatio - 1) <= maxReadDifference,
        value: `× ${readRatio.toFixed(2)}`,
      },
      {
        title: `nine of ten changes reach live endpoints beside dead and slow ones within ${maxP90Ms} ms`,
        pass: p90 <= maxP90Ms,
        value: `${fixed(p90)} ms`,
      },
      {
        title: `a delivery takes at most ${maxCpuRatio} times the CPU of a bare signed POST`,
        pass: cpuRatio <= maxCpuRatio,
        value: `× ${cpuRatio.toFixed(2)}`,
      },
    ],
  };
}

const costs = ["private API, µs per delivery", "Redis"];

function row(title: string, phase: Phase, reads: (phase: Phase) => number): (string | number)[] {
  const { changes, deliveries, liveMs, apiCpuMs, redis } = phase;
  return [
    title,
    changes,
    deliveries,
    ...[0.5, 0.9, 0.99].map((share) => fixed(liveMs.percentile(share))),
    fixed(liveMs.max),
    fixed(reads(phase)),
    fixed(microsOf(apiCpuMs, deliveries)),
    fixed(microsOf(redis.cpuMs, deliveries)),
  ];
}

function microsOf(cpuMs: number, deliveries: number): number {
  return (cpuMs * 1_000) / deliveries;
}

function fixed(value: number): number {
  return Number(value.toFixed(1));
}

await runScenario(run);
