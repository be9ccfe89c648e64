/**
 * An endpoint that is down while 100,000 changes pass, and comes back: what the others notice, what is kept of it, and that it gets everything.
 *
 *   npm run loadtest -- endpoint-outage [--json]
 *   CHANGES (100000) FLOOD (1000 changes/s that only the endpoint wants) LIVE (100 endpoints) RATE (20 changes/s, each for 10 of them)
 *
 * Real Redis, one private API, the endpoints in one process. Live endpoints get changes at a steady rate throughout. First the flood passes without
 * the endpoint, which tells the others' p99; then with it while it answers 503; then it answers, and nothing else is done. Verdicts: everything
 * arrives in order per key, the others' p99 stays within 1.2 times that of the beginning, and what Redis keeps of the endpoint is a window and places.
 */
import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import { eventually } from "../../test/support/eventually.ts";
import { Histogram } from "../checks/histogram.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { flood } from "../rig/change-flood.ts";
import { EndpointBench } from "../rig/endpoint-bench.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { HookSink } from "../rig/hook-sink.ts";
import { putRules } from "../rig/private-api.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  changes: parameter("CHANGES", 100_000, 1_000, 1_000_000),
  flood: parameter("FLOOD", 1_000, 10, 20_000),
  live: parameter("LIVE", 100, 10, 1_000),
  rate: parameter("RATE", 20, 1, 1_000),
};
const each = 10;
const channels = 20;
/** Changes before the endpoint exists: a fifth of the outage. */
const baselineShare = 0.2;
/** An endpoint is probed once a minute. */
const caughtUpWithinMs = 600_000;
const pieceSeconds = 5;
const noise = 1.2;
/** See EP-15; an item that exceeds the bytes still counts. */
const maxKeptItems = 1_001;
/** Of the window, with what a queue and the deduplication keep beside the items. */
const maxKeptBytes = 4 * 1024 * 1024;

interface Kept {
  readonly keys: number;
  readonly bytes: number;
  readonly items: number;
  readonly cursors: number;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const sink = new HookSink();
  const token = randomBytes(32).toString("base64url");
  const deployment = await fleet.start({
    gateways: 0,
    privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
    moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
  });
  const cohorts = Math.max(1, Math.round(parameters.live / each));
  const bench = new EndpointBench({ deployment, token, sink, cohorts, channels });
  const redis = new RedisUseReader(deployment.redisUrl);
  try {
    const kept = { changes: true, historySize: 0 };
    await putRules(deployment, { namespaces: { load: kept, flood: kept } });
    return await measure({ bench, sink, deployment, redis: redis.client });
  } finally {
    redis.stop();
    bench.stop();
    await sink.stop();
  }
}

async function measure(rig: {
  bench: EndpointBench;
  sink: HookSink;
  deployment: OwnDeployment;
  redis: Redis;
}): Promise<ScenarioReport> {
  const { bench, sink, deployment, redis } = rig;
  const { changes } = parameters;
  const pass = async (group: string, count: number): Promise<void> =>
    flood(deployment, {
      ...{ group, prefix: `flood:${group}-`, channels },
      ...{ perSecond: parameters.flood, changes: count },
    });
  await bench.create("live", parameters.live);
  await meanwhile(bench, "warm", pass("warm", changes * (baselineShare / 2)));
  say("the flood passes without the endpoint");
  const baselineMs = await meanwhile(bench, "baseline", pass("baseline", changes * baselineShare));
  say("the endpoint is down");
  sink.fail(true);
  const [id = ""] = await bench.create("down", 1, ["flood:outage-*"]);
  const downMs = await meanwhile(bench, "down", pass("outage", changes));
  const kept = await keptOf(redis, id);
  say(`${changes} changes have passed; the endpoint answers again`);
  sink.fail(false);
  const from = performance.now();
  const caughtUp = eventually(() => sink.afterOutage >= changes, caughtUpWithinMs);
  const firstAgain = eventually(() => sink.afterOutage > 0, caughtUpWithinMs).then(() => performance.now() - from);
  const catchingUpMs = await meanwhile(bench, "catching-up", caughtUp);
  const seconds = (performance.now() - from) / 1_000;
  const waitedSeconds = (await firstAgain) / 1_000;
  const { repeats, disordered } = await sink.figures();
  const p99 = (histogram: Histogram): number => Number(histogram.percentile(0.99).toFixed(1));
  const baseline = p99(baselineMs);
  return {
    scenario: "endpoint-outage",
    parameters,
    figures: {
      "live endpoints, p99 without it, ms": baseline,
      "live endpoints, p99 while it is down, ms": p99(downMs),
      "live endpoints, p99 while it catches up, ms": p99(catchingUpMs),
      "from its recovery to its first change, s": Number(waitedSeconds.toFixed(1)),
      "changes/s while it catches up": Math.round(changes / Math.max(1, seconds - waitedSeconds)),
      "Redis keys of the endpoint while it is down": kept.keys,
      "of these, changes in queues": kept.items,
      "places in the log": kept.cursors,
      "bytes of all that": kept.bytes,
    },
    verdicts: [
      {
        title: "everything that passed arrives, in order per key, without any action",
        pass: sink.afterOutage >= changes && disordered === 0,
        value: `${sink.afterOutage} of ${changes}, ${repeats} repeats, ${disordered} out of order`,
      },
      {
        title: `while it is down the others' p99 is at most × ${noise}`,
        pass: p99(downMs) <= noise * baseline,
        value: `× ${(p99(downMs) / baseline).toFixed(2)}`,
      },
      {
        title: `while it catches up the others' p99 is at most × ${noise}`,
        pass: p99(catchingUpMs) <= noise * baseline,
        value: `× ${(p99(catchingUpMs) / baseline).toFixed(2)}`,
      },
      {
        title: "what is kept of it is a window and places in the log",
        pass: kept.items <= maxKeptItems && kept.bytes <= maxKeptBytes,
        value: `${kept.items} changes, ${kept.cursors} places, ${kept.bytes} bytes`,
      },
    ],
  };
}

/** Live endpoints get changes until the work is done. @returns how long these took */
async function meanwhile(bench: EndpointBench, name: string, work: Promise<unknown>): Promise<Histogram> {
  const all = new Histogram();
  let isDone = false;
  // A failure of the work ends the scenario when it is awaited.
  const end = (): void => void (isDone = true);
  work.then(end, end);
  const load = { perSecond: parameters.rate, changes: parameters.rate * pieceSeconds };
  for (let piece = 0; !isDone; piece++) all.merge((await bench.measure(`${name}-${piece}`, load)).liveMs.toJSON());
  await work;
  return all;
}

/** Keys that carry the id of the endpoint: its queues, what was queued lately, attempts. And its places. */
async function keptOf(redis: Redis, id: string): Promise<Kept> {
  const keys: string[] = [];
  let [keyBytes, items, cursors] = [0, 0, 0];
  for await (const found of redis.scanStream({ match: `*${id}*`, count: 1_000 })) keys.push(...(found as string[]));
  for (const key of keys) {
    keyBytes += (await redis.memory("USAGE", key)) ?? 0;
    if (key.includes(":queues2:q:")) items += (await redis.llen(key)) / 2;
  }
  let cursorBytes = 0;
  for await (const found of redis.scanStream({ match: "*:changes:cursors", count: 1_000 })) {
    for (const key of found as string[]) {
      const names = (await redis.hkeys(key)).filter((name) => name.includes(id));
      cursors += names.length;
      // A field, its place, and as much in the sorted set of live cursors.
      for (const name of names) cursorBytes += 2 * (name.length + String(await redis.hget(key, name)).length);
    }
  }
  return { keys: keys.length, bytes: keyBytes + cursorBytes, items, cursors };
}

await runScenario(run);
