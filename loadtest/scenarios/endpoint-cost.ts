/**
 * CPU of a delivery to an endpoint, of a bare signed POST's; with BEFORE_FOLDER beside another checkout, in turn.
 *
 *   npm run loadtest -- endpoint-cost [--json]
 *   BEFORE_FOLDER=../before npm run loadtest -- endpoint-cost      a checkout of another commit, with its packages installed
 *   ENDPOINTS (1000) EACH (10 endpoints want the same channels) BURST (1000 changes) ORIGINS (100) WARM_UPS (6) ROUNDS (5 bursts of each, after the warm-ups)
 *   PROFILE_FOLDER: the private API of this checkout writes a CPU profile there when it ends
 *
 * The bursts of the scenario `endpoints`, and nothing else: a few seconds for each. A bare POST is measured after each burst. The table has
 * medians; `of before` is the median of the ratios of neighbouring bursts. `without publishing`: less what as many changes that nobody wants cost. No CPU figure fails a run; a change that comes twice or out of order does.
 */
import { randomBytes } from "node:crypto";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { checkoutIn } from "../rig/checkout.ts";
import { EndpointBench } from "../rig/endpoint-bench.ts";
import { EndpointBursts, warmUpBursts } from "../rig/endpoint-bursts.ts";
import { type Burst, cpuRatioOf, deliveryRatioOf } from "../rig/endpoint-report.ts";
import { Fleet } from "../rig/fleet.ts";
import { HookSink } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  endpoints: parameter("ENDPOINTS", 1_000, 20, 5_000),
  each: parameter("EACH", 10, 1, 5_000),
  burst: parameter("BURST", 1_000, 1, 10_000),
  origins: parameter("ORIGINS", 100, 1, 1_000),
  warmUps: parameter("WARM_UPS", warmUpBursts, 0, 200),
  rounds: parameter("ROUNDS", 5, 1, 100),
};
/** For each group of endpoints that want the same ones. */
const channels = 20;

/** A checkout under measurement. */
interface Side {
  readonly name: string;
  readonly fleet: Fleet;
  readonly sink: HookSink;
  readonly bench: EndpointBench;
  readonly bursts: EndpointBursts;
  /** Once the programs are warm. */
  readonly measured: Burst[];
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const before = checkoutIn("BEFORE_FOLDER");
  const sides: Side[] = [];
  try {
    if (before !== undefined) sides.push(await begin("before", new Fleet(), before));
    sides.push(await begin("now", fleet));
    const { warmUps, rounds } = parameters;
    for (let n = 0; n < warmUps + rounds; n++) {
      for (const side of sides) {
        const burst = await side.bursts.measure();
        say(`${side.name}, burst ${n + 1}: × ${cpuRatioOf(burst).toFixed(2)}`);
        if (n >= warmUps) side.measured.push(burst);
      }
    }
    return await reportOf(sides);
  } finally {
    for (const { bench, bursts, sink, fleet: own } of sides) {
      await bursts.stop();
      bench.stop();
      await sink.stop();
      if (own !== fleet) await own.stop();
    }
  }
}

async function begin(name: string, fleet: Fleet, checkout?: string): Promise<Side> {
  const { endpoints, each, origins } = parameters;
  const token = randomBytes(32).toString("base64url");
  const profiles = process.env["PROFILE_FOLDER"];
  const deployment = await fleet.start({
    ...{ gateways: 0, privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" } },
    moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
    ...(checkout !== undefined && { checkout }),
    ...(checkout === undefined &&
      profiles !== undefined && {
        nodeFlags: ["--cpu-prof", `--cpu-prof-dir=${profiles}`],
      }),
  });
  await putRules(deployment, { namespaces: { load: { changes: true, historySize: 0 } } });
  const sink = new HookSink({ origins });
  const cohorts = Math.max(1, Math.round(endpoints / each));
  const bench = new EndpointBench({ deployment, token, sink, cohorts, channels });
  await bench.create("live", endpoints);
  const bursts = new EndpointBursts({ bench, sink, changes: parameters.burst });
  return { name, fleet, sink, bench, bursts, measured: [] };
}

async function reportOf(sides: readonly Side[]): Promise<ScenarioReport> {
  const received = await Promise.all(sides.map(async ({ sink }) => sink.figures()));
  const first = sides.length > 1 ? sides[0] : undefined;
  const mistakes = received.reduce((sum, { repeats, disordered }) => sum + repeats + disordered, 0);
  return {
    scenario: "endpoint-cost",
    parameters,
    figures: {},
    tables: [
      {
        columns: [
          "",
          "private API, µs",
          ...(first ? ["of before"] : []),
          "of a bare POST",
          "without publishing",
          "bare POST, µs",
          "Redis, µs",
          "script calls",
          "commands",
        ],
        rows: sides.map(({ name, measured }) => [
          name,
          ...[
            apiMicros,
            ...(first ? [(burst: Burst, n: number) => apiMicros(burst) / apiMicros(first.measured[n] ?? burst)] : []),
            cpuRatioOf,
            deliveryRatioOf,
            ({ bareMicros }: Burst) => bareMicros,
            ({ redis, deliveries }: Burst) => (redis.cpuMs * 1_000) / deliveries,
            ({ redis, deliveries }: Burst) => (redis.callsByCommand["evalsha"] ?? 0) / deliveries,
            ({ redis, deliveries }: Burst) => redis.commands / deliveries,
          ].map((figure) => Number(percentile(measured.map(figure), 0.5).toFixed(2))),
        ]),
      },
    ],
    verdicts: [
      {
        title: "each change reaches each endpoint once, in order of its channel",
        pass: mistakes === 0,
        value: mistakes,
      },
    ],
  };
}

/** Of one delivery. */
function apiMicros({ apiCpuMs, deliveries }: Burst): number {
  return (apiCpuMs * 1_000) / deliveries;
}

await runScenario(run);
