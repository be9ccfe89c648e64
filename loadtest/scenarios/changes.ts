/**
 * The cost of the change log: publishes with and without `changes: true`, and pulls.
 *
 *   npm run loadtest -- changes [--json]
 *   CHANGES_SECONDS (5 for each measurement) AT_ONCE (64) ROUNDS (3) BYTES (200 of data) CHANNELS (200)
 *
 * Real Redis and private API. Namespaces with and without the log alternate in each round; the tables show medians. Then the same with a log that is full,
 * where each publish also removes what is oldest, and pulls of the whole log. Verdicts: no publish fails, a pull of everything has all changes or a gap.
 */
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { RedisUseReader, useSince } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const parameters = {
  seconds: parameter("CHANGES_SECONDS", 5, 1, 600),
  atOnce: parameter("AT_ONCE", 64, 1, 1_000),
  rounds: parameter("ROUNDS", 3, 1, 100),
  bytes: parameter("BYTES", 200, 2, 60_000),
  channels: parameter("CHANNELS", 200, 1, 100_000),
};
/** Of the log that is full. */
const fullBytes = 2_000_000;
const warmUpPublishes = 2_000;
const kinds = ["plain", "logged"] as const;
type Kind = (typeof kinds)[number];

interface Load {
  readonly publishes: number;
  readonly failed: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly redisMicros: number;
  readonly apiMicros: number;
}

async function publish(deployment: OwnDeployment, namespace: string, count: (n: number) => boolean): Promise<number[]> {
  const latencies: number[] = [];
  const headers = { authorization: `Bearer ${deployment.privateApiToken}`, "content-type": "application/json" };
  let sent = 0;
  const data = "x".repeat(parameters.bytes - 2);
  const publishing = Array.from({ length: parameters.atOnce }, async () => {
    while (count(sent)) {
      const channel = `${namespace}:${sent++ % parameters.channels}`;
      const from = performance.now();
      const answer = await fetch(`${deployment.privateApi}/v1/publish`, {
        method: "POST",
        headers,
        body: JSON.stringify({ channel, event: "moved", data }),
      });
      await answer.arrayBuffer();
      latencies.push(answer.ok ? performance.now() - from : Infinity);
    }
  });
  await Promise.all(publishing);
  return latencies;
}

async function measure(deployment: OwnDeployment, redis: RedisUseReader, namespace: string): Promise<Load> {
  const before = await redis.read();
  const apiBefore = cpuMsByRole(deployment.processes).get("private-api") ?? 0;
  const from = performance.now();
  const latencies = await publish(deployment, namespace, () => performance.now() - from < parameters.seconds * 1_000);
  const elapsedMs = performance.now() - from;
  const use = useSince(before, await redis.read());
  const apiMs = (cpuMsByRole(deployment.processes).get("private-api") ?? 0) - apiBefore;
  const publishes = latencies.length;
  return {
    publishes,
    failed: latencies.filter((ms) => ms === Infinity).length,
    perSecond: Math.round((publishes / elapsedMs) * 1_000),
    p50Ms: percentile(latencies, 0.5),
    redisMicros: (use.cpuMs * 1_000) / publishes,
    apiMicros: (apiMs * 1_000) / publishes,
  };
}

async function compare(deployment: OwnDeployment, redis: RedisUseReader, title: string): Promise<Record<Kind, Load[]>> {
  const loads: Record<Kind, Load[]> = { plain: [], logged: [] };
  for (const kind of kinds) await publish(deployment, kind, (sent) => sent < warmUpPublishes);
  for (let round = 1; round <= parameters.rounds; round++) {
    for (const kind of round % 2 ? kinds : kinds.toReversed()) {
      loads[kind].push(await measure(deployment, redis, kind));
    }
    say(`${title}: round ${round} of ${parameters.rounds}`);
  }
  return loads;
}

interface Pulls {
  readonly answers: number;
  readonly changes: number;
  readonly gaps: number;
  readonly elapsedMs: number;
}

/** From the oldest change to the newest. */
async function pullAll({ privateApi, privateApiToken }: OwnDeployment, channels: string): Promise<Pulls> {
  const headers = { authorization: `Bearer ${privateApiToken}` };
  const from = performance.now();
  const pulls = { answers: 0, changes: 0, gaps: 0 };
  for (let cursor = ""; ;) {
    const query = cursor === "" ? "" : `&cursor=${cursor}`;
    const answer = await fetch(`${privateApi}/v1/changes?channels=${channels}${query}`, { headers });
    const body = (await answer.json()) as { changes: object[]; cursor: string };
    pulls.answers++;
    pulls.changes += body.changes.filter((item) => !("gap" in item)).length;
    pulls.gaps += body.changes.filter((item) => "gap" in item).length;
    if (body.changes.length === 0) return { ...pulls, elapsedMs: performance.now() - from };
    ({ cursor } = body);
  }
}

function median(numbers: readonly number[]): number {
  return percentile([...numbers], 0.5);
}

function rows(title: string, loads: Record<Kind, Load[]>): (string | number)[][] {
  return kinds.map((kind) => {
    const of = (figure: keyof Load): number => median(loads[kind].map((load) => load[figure]));
    const costs = [of("redisMicros").toFixed(1), of("apiMicros").toFixed(1), of("p50Ms").toFixed(2)];
    return [title, kind, Math.round(of("perSecond")), ...costs];
  });
}

await runScenario(async (fleet: Fleet): Promise<ScenarioReport> => {
  const rules = { namespaces: { plain: {}, logged: { changes: true } } };
  const all: Record<Kind, Load[]>[] = [];
  const tableRows: (string | number)[][] = [];
  let figures: Record<string, string | number> = {};
  let complete = false;
  for (const title of ["growing", "full"] as const) {
    const settings = title === "full" ? { CHANGES_MAX_BYTES: String(fullBytes) } : {};
    const deployment = await fleet.start({ gateways: 0, privateApiSettings: settings });
    const redis = new RedisUseReader(deployment.redisUrl);
    await putRules(deployment, rules);
    const loads = await compare(deployment, redis, title);
    all.push(loads);
    tableRows.push(...rows(title, loads));
    if (title === "growing") {
      const logged = loads.logged.reduce((sum, { publishes }) => sum + publishes, warmUpPublishes);
      const before = await redis.read();
      const pulls = await pullAll(deployment, "logged:*");
      const use = useSince(before, await redis.read());
      complete = pulls.changes === logged || pulls.gaps > 0;
      const idle = performance.now();
      let idlePulls = 0;
      for (; performance.now() - idle < 1_000; idlePulls++) await pullAll(deployment, "none:1");
      figures = {
        "changes in the log": pulls.changes,
        "changes pulled a second, one reader": Math.round((pulls.changes / pulls.elapsedMs) * 1_000),
        "Redis' CPU for each change pulled, in µs": ((use.cpuMs * 1_000) / pulls.changes).toFixed(1),
        "empty pulls of one channel a second, one reader": idlePulls,
      };
    }
    redis.stop();
    await fleet.stop();
  }
  const failed = all.flatMap(({ plain, logged }) => [...plain, ...logged]).reduce((sum, load) => sum + load.failed, 0);
  return {
    scenario: "changes",
    parameters,
    figures,
    tables: [
      {
        columns: ["log", "namespace", "publishes/s", "Redis µs", "private API µs", "p50 ms"],
        rows: tableRows,
      },
    ],
    verdicts: [
      { title: "no publish failed", pass: failed === 0, value: failed },
      { title: "a pull of everything has all changes, or a gap", pass: complete, value: String(complete) },
    ],
  };
});
