/**
 * A page whose fans send four times as much as everybody else, an intake over what the service can do, and a service that sleeps.
 *
 *   npm run loadtest -- webhook-crowd [--json]
 *   RATE (100 webhooks/s of all others) SECONDS (10 for each measurement) WORK_MS (20) IN_FLIGHT (20 requests to the service)
 *   OVERLOAD_SECONDS (20; the mark is 600) QUOTA (3000 waiting items of a tenant) SLEEP_MS (30000)
 *
 * One gateway, one private API, and a service that works WORK_MS on each webhook, so that IN_FLIGHT * 1000 / WORK_MS a second are all
 * that it can do. Others send to 200 keys, one after the other per key; the page to 1,000. The table has, for each group, how long after
 * a webhook was due it was answered, its service was called, and the service had served it. Verdicts: beside the page, others are served within twice the quiet p99, and the page's subscribers are
 * served in parallel; while one tenant sends twice what the service can do, it is refused with 429, nobody else is, others keep
 * within twice the quiet p99, and Redis grows once the quota is full by the ids alone that it keeps for 10 minutes; while the service sleeps, the p99.9 of the answers to
 * webhooks is at most twice the quiet one. Everything that was accepted and served came in order of its key.
 */
import { Histogram, type HistogramJson } from "../checks/histogram.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import type { HookGroup } from "../providers/load-messages.ts";
import type { Fleet } from "../rig/fleet.ts";
import { HookSink } from "../rig/hook-sink.ts";
import { HookTrials, type Trial } from "../rig/hook-trials.ts";
import { putRules } from "../rig/private-api.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario } from "../rig/scenario.ts";

const parameters = {
  rate: parameter("RATE", 100, 1, 10_000),
  seconds: parameter("SECONDS", 10, 1, 600),
  workMs: parameter("WORK_MS", 20, 1, 10_000),
  inFlight: parameter("IN_FLIGHT", 20, 1, 1_000),
  overloadSeconds: parameter("OVERLOAD_SECONDS", 20, 5, 3_600),
  quota: parameter("QUOTA", 3_000, 100, 1_000_000),
  sleepMs: parameter("SLEEP_MS", 30_000, 1_000, 60_000),
};
const pageFactor = 4;
const overloadFactor = 2;
const maxFactor = 2;
/** A segment of the allocator, and what a busy gateway has under way. */
const memoryNoiseBytes = 8 * 1024 * 1024;
/** Of an id that the queues remember, with its places in Redis' tables. */
const keyBytes = 250;
/** What the service can do. */
const servedPerSecond = (parameters.inFlight * 1_000) / parameters.workMs;
const bodyBytes = 1_000;
const secret = "a secret of the load test";

const others: HookGroup = {
  ...{
    name: "others",
    target: "/hooks/page",
    connections: 32,
    perSecond: parameters.rate,
    keys: 200,
    tenant: "others",
  },
};
const page: HookGroup = {
  ...{ name: "page", target: "/hooks/page", connections: 64, perSecond: pageFactor * parameters.rate, keys: 1_000 },
  tenant: "page",
};

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const sink = new HookSink();
  const deployment = await fleet.start({ gateways: 1, gatewaySettings: { HOOK_SECRET: secret } });
  const reader = new RedisUseReader(deployment.redisUrl);
  try {
    await putRules(deployment, rules(await sink.url()));
    const port = Number(new URL(deployment.gatewayUrls[0] ?? "").port);
    const { seconds, workMs } = parameters;
    const bench = new HookTrials({ port, secret, bodyBytes, sink, reader, seconds, workMs });
    sink.delay(workMs);
    await bench.run("warm-up", [others, page]);
    // As long as the sleep, which it is compared with: a 99.9th percentile takes thousands of webhooks.
    const sleep = { seconds: Math.max(seconds, parameters.sleepMs / 1_000) };
    const quiet = await bench.run("quiet", [others], sleep);
    const half = await bench.run("half of what the service can do", [{ ...others, perSecond: servedPerSecond / 2 }]);
    const beside = await bench.run(`a page sends ${pageFactor} times as much`, [others, page]);
    const perSecond = Math.round(overloadFactor * servedPerSecond);
    const flood = { ...page, name: "flood", tenant: "flood", perSecond, connections: 128, keys: 4_000 };
    const overload = await bench.run(`a tenant sends ${perSecond}/s, twice what the service can do`, [others, flood], {
      seconds: parameters.overloadSeconds,
    });
    sink.delay(parameters.sleepMs);
    const asleep = await bench.run("the service sleeps", [others], { ...sleep, awaitsService: false });
    return report({ quiet, half, beside, overload, asleep });
  } finally {
    reader.stop();
    await sink.stop();
  }
}

function rules(url: string): object {
  const service = { url, secret: `whsec_${Buffer.alloc(32, 7).toString("base64")}`, timeoutMs: 60_000 };
  return {
    services: { pages: { ...service, maxInFlight: parameters.inFlight } },
    quotas: { perTenant: parameters.quota, perSource: 10_000_000 },
    routes: [{ event: "page", service: "pages", path: "/", mode: "enqueue" }],
    sources: {
      page: {
        ...{ verify: "github", secrets: ["env:HOOK_SECRET"], route: "page" },
        ...{ key: "body:/key", tenant: "body:/tenant", id: "header:x-github-delivery" },
      },
    },
  };
}

type Trials = Record<"quiet" | "half" | "beside" | "overload" | "asleep", Trial>;

const titles: Readonly<Record<keyof Trials, string>> = {
  quiet: "quiet",
  half: "half of what the service can do",
  beside: `a page sends ${pageFactor} times as much`,
  overload: "a tenant sends twice what the service can do",
  asleep: "the service sleeps",
};

function report(trials: Trials): ScenarioReport {
  const { quiet, beside, overload, asleep } = trials;
  const servedP99 = ({ served }: Trial): number => at(served.servedMs["others"], 0.99);
  const answeredP999 = ({ answered }: Trial): number => at(answered["others"]?.answerMs, 0.999);
  const factor = (trial: Trial): number => servedP99(trial) / servedP99(quiet);
  const intakeFactor = answeredP999(asleep) / answeredP999(quiet);
  const atOnce = beside.served.mostAtOnce["page"] ?? 0;
  const { before, after } = overload.redis;
  const [growth, ids] = [after.bytes - before.bytes, Math.max(0, after.keys - before.keys)];
  const [floodRefusals, otherRefusals] = [refusals(overload, "flood"), refusals(overload, "others")];
  const isFloodRefused = /^429 × \d+$/.test(floodRefusals);
  const verdicts: Verdict[] = [
    factorVerdict(`beside a page with ${pageFactor} times as much, others' p99`, factor(beside)),
    { title: "the page's subscribers are served in parallel", pass: atOnce > 1, value: atOnce },
    { title: "over its quota the tenant is refused with 429 alone", pass: isFloodRefused, value: floodRefusals },
    { title: "nobody else is refused", pass: otherRefusals === "none", value: otherRefusals },
    factorVerdict("beside that tenant, others' p99", factor(overload)),
    {
      title: "in the second half of the overload Redis grows by the ids alone that it keeps for 10 minutes",
      pass: growth < memoryNoiseBytes + ids * keyBytes,
      value: `${mebibytes(growth)} with ${ids} more keys; ${mebibytes(after.bytes)} at most`,
    },
    factorVerdict("while the service sleeps, the p99.9 of the answers", intakeFactor),
    {
      title: "what was served came in order of its key",
      pass: asleep.served.disordered === 0,
      value: `${asleep.served.disordered} out of order, ${asleep.served.repeats} repeats`,
    },
  ];
  const columns = [
    "",
    "group",
    "webhooks",
    "answered p50, ms",
    "p99.9",
    "service called p50",
    "p99",
    "served p50",
    "p99",
  ];
  const rows = Object.entries(trials).flatMap(([name, { answered, served }]) =>
    Object.entries(answered).map(([group, { accepted, answerMs }]) => {
      const [called, done] = [served.waitMs[group], served.servedMs[group]];
      const times = [
        at(answerMs, 0.5),
        at(answerMs, 0.999),
        at(called, 0.5),
        at(called, 0.99),
        at(done, 0.5),
        at(done, 0.99),
      ];
      return [titles[name as keyof Trials], group, accepted, ...times.map((ms) => fixed(ms))];
    }),
  );
  return { scenario: "webhook-crowd", parameters, figures: {}, tables: [{ columns, rows }], verdicts };
}

/** "–" where nothing was measured. */
function fixed(ms: number): number | string {
  return Number.isNaN(ms) ? "–" : Number(ms.toFixed(1));
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

function factorVerdict(what: string, factor: number): Verdict {
  return {
    title: `${what} is at most ${maxFactor} × the quiet one`,
    pass: factor <= maxFactor,
    value: `× ${factor.toFixed(2)}`,
  };
}

function at(json: HistogramJson | undefined, share: number): number {
  const histogram = new Histogram();
  if (json) histogram.merge(json);
  return histogram.percentile(share);
}

/** @returns such as `429 × 120` */
function refusals({ answered }: Trial, group: string): string {
  const entries = Object.entries(answered[group]?.refused ?? {});
  return entries.length === 0 ? "none" : entries.map(([status, times]) => `${status} × ${times}`).join(", ");
}

await runScenario(run);
