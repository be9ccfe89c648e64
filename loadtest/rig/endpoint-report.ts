/** The figures of webhooks out under load, and what they have to reach. */
import type { Histogram } from "../checks/histogram.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import type { Stage } from "./delivery-stages.ts";
import type { Phase } from "./endpoint-bench.ts";
import type { ServiceFigures } from "./hook-sink.ts";

const maxP90Ms = 50;
const maxCpuRatio = 1.5;
const maxReadDifference = 0.1;
/** Of a p99, from one phase to another that is the same. */
const noise = 1.2;

export interface Burst extends Phase {
  /** CPU of the private API for as many changes that no endpoint wants. */
  readonly publishCpuMs: number;
  /** CPU of a bare POST right after it. */
  readonly bareMicros: number;
}

export interface MeasuredDeliveries {
  readonly one: Phase;
  readonly burst: Burst;
  /** Without the dead and slow ones: before and after them. */
  readonly alone: readonly [Phase, Phase];
  readonly mixed: Phase;
  /** With dead and slow ones, as in `mixed`. */
  readonly stages: ReadonlyMap<Stage, Histogram>;
  readonly toAll: Phase;
  readonly polled: Phase | undefined;
  /** At a low rate, for all endpoints and for one. */
  readonly reads: readonly [Phase, Phase];
  readonly received: ServiceFigures;
}

/** Neither waits: what waking up costs is in neither figure. */
export function cpuRatioOf({ apiCpuMs, deliveries, bareMicros }: Burst): number {
  return microsOf(apiCpuMs, deliveries) / bareMicros;
}

/** Without what publishing costs. */
export function deliveryRatioOf({ apiCpuMs, publishCpuMs, deliveries, bareMicros }: Burst): number {
  return microsOf(apiCpuMs - publishCpuMs, deliveries) / bareMicros;
}

export function endpointReport(parameters: ScenarioReport["parameters"], measured: MeasuredDeliveries): ScenarioReport {
  const { one, burst, alone, mixed, stages, toAll, polled, reads } = measured;
  const { bareMicros, apiCpuMs, redis, deliveries } = burst;
  const withRedis = microsOf(apiCpuMs + redis.cpuMs, deliveries) / bareMicros;
  const [before, after] = alone;
  const [readsForAll, readsForOne] = reads;
  return {
    scenario: "endpoints",
    parameters,
    figures: {
      "deliveries/s in a burst": Math.round(burst.perSecond),
      "changes/s": fixed((before.perSecond * before.changes) / before.deliveries),
      connections: burst.connections,
      "CPU of a bare signed POST, µs": fixed(bareMicros),
      "CPU of a delivery in a burst, µs: private API": fixed(microsOf(apiCpuMs, deliveries)),
      "CPU of a delivery in a burst, µs: Redis": fixed(microsOf(redis.cpuMs, deliveries)),
      "CPU of a delivery with Redis, of a bare POST": `× ${withRedis.toFixed(2)}`,
      "reads of the log/s at a low rate: for all endpoints": fixed(readsPerSecond(readsForAll)),
      "reads of the log/s at a low rate: for one": fixed(readsPerSecond(readsForOne)),
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
      {
        columns: ["live endpoints beside dead and slow ones", "p50, ms", "p90", "p99"],
        rows: [...stages].map(([stage, histogram]) => [stage, ...percentilesOf(histogram)]),
      },
    ],
    verdicts: verdictsOf(measured),
  };
}

function verdictsOf({ burst, alone, mixed, reads, received }: MeasuredDeliveries): readonly Verdict[] {
  const [forAll, forOne] = reads.map(readsPerSecond) as [number, number];
  const cpuRatio = cpuRatioOf(burst);
  const p90 = mixed.liveMs.percentile(0.9);
  const p99 = mixed.liveMs.percentile(0.99);
  const p99Alone = Math.max(...alone.map(({ liveMs }) => liveMs.percentile(0.99)));
  return [
    {
      title: "each change reaches each endpoint that answers once, in order of its channel",
      pass: received.repeats + received.disordered === 0,
      value: `${received.repeats} repeats, ${received.disordered} out of order`,
    },
    {
      title: "the log is read as often a second for all endpoints as for one, within a tenth",
      pass: Math.abs(forAll / forOne - 1) <= maxReadDifference,
      value: `× ${(forAll / forOne).toFixed(2)}`,
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
  ];
}

const costs = ["private API, µs per delivery", "Redis"];

function row(title: string, phase: Phase): (string | number)[] {
  const { changes, deliveries, liveMs, apiCpuMs, redis } = phase;
  return [
    title,
    changes,
    deliveries,
    ...percentilesOf(liveMs),
    fixed(liveMs.max),
    fixed(readsPerSecond(phase)),
    fixed(microsOf(apiCpuMs, deliveries)),
    fixed(microsOf(redis.cpuMs, deliveries)),
  ];
}

function percentilesOf(histogram: Histogram): number[] {
  return [0.5, 0.9, 0.99].map((share) => fixed(histogram.percentile(share)));
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
