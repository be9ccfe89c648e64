/**
 * Ten thousand endpoints that want the same channel: how long their creation takes, and each change for all of them.
 *
 *   npm run loadtest -- endpoint-crowd [--json]
 *   ENDPOINTS (10000) CHANGES (5) RATE (0.2 changes/s) ORIGINS (100)
 *
 * Real Redis, one private API, the endpoints in one process. Verdict: each endpoint gets each change once and in order.
 */
import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { EndpointBench } from "../rig/endpoint-bench.ts";
import type { Fleet } from "../rig/fleet.ts";
import { HookSink } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  endpoints: parameter("ENDPOINTS", 10_000, 10, 20_000),
  changes: parameter("CHANGES", 5, 1, 1_000),
  rate: parameter("RATE", 0.2, 0.01, 1_000),
  origins: parameter("ORIGINS", 100, 1, 1_000),
};
/** Calls of Redis that take longer are listed by it. */
const slowCallMicros = 1_000;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const { endpoints, changes, rate, origins } = parameters;
  const sink = new HookSink({ origins });
  const token = randomBytes(32).toString("base64url");
  const deployment = await fleet.start({
    gateways: 0,
    privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
    moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
  });
  const bench = new EndpointBench({ deployment, token, sink, cohorts: 1, channels: 1 });
  const redis = new RedisUseReader(deployment.redisUrl);
  try {
    await putRules(deployment, { namespaces: { load: { changes: true, historySize: 0 } } });
    await redis.client.config("SET", "slowlog-log-slower-than", slowCallMicros);
    await redis.client.config("SET", "slowlog-max-len", 100_000);
    say(`${endpoints} endpoints are created`);
    const from = performance.now();
    await bench.create("live", endpoints);
    const createdMs = performance.now() - from;
    const longestCreation = await longestCall(redis.client);
    say(`${changes} changes are published`);
    const phase = await bench.measure("crowd", { perSecond: rate, changes });
    const { repeats, disordered } = await sink.figures();
    return {
      scenario: "endpoint-crowd",
      parameters,
      figures: {
        "creations/s": Math.round((endpoints / createdMs) * 1_000),
        "longest call of Redis while they are created, ms": longestCreation,
        "deliveries/s": Math.round(phase.perSecond),
        "from a change to half of the endpoints, ms": Math.round(phase.liveMs.percentile(0.5)),
        "to the last endpoint, ms": Math.round(phase.liveMs.max),
        "longest call of Redis while changes are delivered, ms": await longestCall(redis.client),
      },
      verdicts: [
        {
          title: "each change reaches each endpoint once, in order",
          pass: repeats + disordered === 0,
          value: `${phase.deliveries} deliveries, ${repeats} repeats, ${disordered} out of order`,
        },
      ],
    };
  } finally {
    redis.stop();
    bench.stop();
    await sink.stop();
  }
}

/** Since the last time, in ms; 0 where none took as long as {@link slowCallMicros}. */
async function longestCall(redis: Redis): Promise<number> {
  const calls = (await redis.call("SLOWLOG", "GET", "-1")) as [id: number, at: number, micros: number][];
  await redis.call("SLOWLOG", "RESET");
  return Math.max(0, ...calls.map(([, , micros]) => micros / 1_000));
}

await runScenario(run);
