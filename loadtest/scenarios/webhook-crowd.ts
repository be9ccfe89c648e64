/**
 * A page whose fans send four times as much as everybody else, an intake over what the service can do, and a service that sleeps.
 *
 *   npm run loadtest -- webhook-crowd [--json]
 *   RATE (100 webhooks/s of all others) SECONDS (10 for each measurement) WORK_MS (20) IN_FLIGHT (20 requests to the service)
 *   OVERLOAD_SECONDS (20; the mark is 600) QUOTA (3000 waiting items of a tenant) SLEEP_MS (30000)
 *
 * One gateway, one private API, and a service that works WORK_MS on each webhook. Others send to 200 keys, one after the other per
 * key; the page to 1,000. Verdicts: beside the page, others are served within twice the quiet p99, and the page's subscribers are
 * served in parallel; while one tenant sends twice what the service can do, it is refused with 429, nobody else is, others keep
 * within twice the quiet p99, and Redis grows no more once the quota is full; while the service sleeps, the p99.9 of the answers to
 * webhooks is at most twice the quiet one. Everything that was accepted and served came in order of its key.
 */
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../../test/support/eventually.ts";
import { Histogram, type HistogramJson } from "../checks/histogram.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { HookLoad } from "../providers/hook-load.ts";
import type { GroupFigures, HookGroup } from "../providers/load-messages.ts";
import type { Fleet } from "../rig/fleet.ts";
import { HookSink, type ServiceFigures } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

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
const bodyBytes = 1_000;
const watchEveryMs = 500;
const servedWithinMs = 120_000;
const secret = "a secret of the load test";

/** Each measurement has keys of its own. */
let trials = 0;

interface Trial {
  readonly answered: Readonly<Record<string, GroupFigures>>;
  readonly served: ServiceFigures;
  /** Most that Redis used, in the first half of the load and in the second. */
  readonly memoryBytes: { readonly before: number; readonly after: number };
}

class Bench {
  readonly #port: number;
  readonly #sink: HookSink;
  readonly #reader: RedisUseReader;

  constructor(options: { port: number; sink: HookSink; reader: RedisUseReader }) {
    this.#port = options.port;
    this.#sink = options.sink;
    this.#reader = options.reader;
  }

  /** @param options.awaitsService false: what the service has not served is not waited for */
  async run(
    title: string,
    groups: readonly HookGroup[],
    { seconds = parameters.seconds, awaitsService = true } = {},
  ): Promise<Trial> {
    say(title);
    await this.#sink.figures();
    const own = groups.map((group) => ({ ...group, name: `${group.name}-${++trials}` }));
    const receivedBefore = this.#sink.received;
    const load = new HookLoad({ port: this.#port, secret, bodyBytes, groups: own });
    const memoryBytes = { before: 0, after: 0 };
    const halfway = performance.now() + (seconds * 1_000) / 2;
    for (const until = performance.now() + seconds * 1_000; performance.now() < until; await pause(watchEveryMs)) {
      const phase = performance.now() < halfway ? "before" : "after";
      memoryBytes[phase] = Math.max(memoryBytes[phase], await this.#reader.usedMemory());
    }
    const figures = await load.end();
    const accepted = Object.values(figures).reduce((sum, group) => sum + group.accepted, 0);
    if (awaitsService) {
      await eventually(() => this.#sink.received - receivedBefore >= accepted, servedWithinMs);
      await pause(parameters.workMs * 2);
    }
    return { answered: unnumbered(figures), served: await this.#servedOf(), memoryBytes };
  }

  async #servedOf(): Promise<ServiceFigures> {
    const figures = await this.#sink.figures();
    const { waitMs, servedMs, mostAtOnce } = figures;
    const own = { waitMs: unnumbered(waitMs), servedMs: unnumbered(servedMs), mostAtOnce: unnumbered(mostAtOnce) };
    return { ...figures, ...own };
  }
}

function unnumbered<Value>(byGroup: Readonly<Record<string, Value>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(byGroup).map(([name, value]) => [name.replace(/-\d+$/, ""), value]));
}

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
    const bench = new Bench({ port, sink, reader });
    sink.delay(parameters.workMs);
    await bench.run("warm-up", [others, page]);
    const quiet = await bench.run("quiet", [others]);
    const beside = await bench.run(`a page sends ${pageFactor} times as much`, [others, page]);
    const perSecond = Math.round((overloadFactor * parameters.inFlight * 1_000) / parameters.workMs);
    const flood = { ...page, name: "flood", tenant: "flood", perSecond, connections: 128, keys: 4_000 };
    const seconds = parameters.overloadSeconds;
    const overload = await bench.run(`a tenant sends ${perSecond}/s, twice what the service can do`, [others, flood], {
      seconds,
    });
    sink.delay(parameters.sleepMs);
    const asleep = await bench.run("the service sleeps", [others], { awaitsService: false });
    return report({ quiet, beside, overload, asleep });
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

function report(trials: Record<"quiet" | "beside" | "overload" | "asleep", Trial>): ScenarioReport {
  const { quiet, beside, overload, asleep } = trials;
  const servedP99 = ({ served }: Trial): number => at(served.servedMs["others"], 0.99);
  const answeredP999 = ({ answered }: Trial): number => at(answered["others"]?.answerMs, 0.999);
  const factor = (trial: Trial): number => servedP99(trial) / servedP99(quiet);
  const intakeFactor = answeredP999(asleep) / answeredP999(quiet);
  const atOnce = beside.served.mostAtOnce["page"] ?? 0;
  const growth = overload.memoryBytes.after - overload.memoryBytes.before;
  const [floodRefusals, otherRefusals] = [refusals(overload, "flood"), refusals(overload, "others")];
  const isFloodRefused = /^429 × \d+$/.test(floodRefusals);
  const verdicts: Verdict[] = [
    factorVerdict(`beside a page with ${pageFactor} times as much, others' p99`, factor(beside)),
    { title: "the page's subscribers are served in parallel", pass: atOnce > 1, value: atOnce },
    { title: "over its quota the tenant is refused with 429 alone", pass: isFloodRefused, value: floodRefusals },
    { title: "nobody else is refused", pass: otherRefusals === "none", value: otherRefusals },
    factorVerdict("beside that tenant, others' p99", factor(overload)),
    {
      title: "Redis grows no more in the second half of the overload",
      pass: growth < memoryNoiseBytes,
      value: `${(growth / 1024 / 1024).toFixed(1)} MiB`,
    },
    factorVerdict("while the service sleeps, the p99.9 of the answers", intakeFactor),
    {
      title: "what was served came in order of its key",
      pass: asleep.served.disordered === 0,
      value: `${asleep.served.disordered} out of order, ${asleep.served.repeats} repeats`,
    },
  ];
  const columns = ["others", "webhooks", "answered p50, ms", "p99.9", "served p50, ms", "p99"];
  const rows = Object.entries(trials).map(([name, { answered, served }]) => {
    const [answers, wait] = [answered["others"]?.answerMs, served.servedMs["others"]];
    const times = [at(answers, 0.5), at(answers, 0.999), at(wait, 0.5), at(wait, 0.99)];
    return [name, answered["others"]?.accepted ?? 0, ...times.map((ms) => Number(ms.toFixed(1)))];
  });
  return { scenario: "webhook-crowd", parameters, figures: {}, tables: [{ columns, rows }], verdicts };
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
