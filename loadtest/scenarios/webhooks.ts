/**
 * What a webhook costs, beside nginx and Lua in the same run; the highest rates; and how long a webhook takes to its service.
 *
 *   npm run loadtest -- webhooks [--json]
 *   SECONDS (4 for each measurement) ROUNDS (3) CONNECTIONS (64) KEYS (1000) BODY_BYTES (1000) RIVAL (1; 0 leaves nginx out)
 *
 * 1. Intake alone, no private API: a process sends GitHub's signed webhooks over CONNECTIONS keep-alive connections, each as soon as
 *    the one before is answered, to our gateway and to nginx in turn (one process each). Both check the signature, remove repeats and
 *    store; ours also reads the key and keeps an order for it.
 * 2. The whole way, with a private API and a service: the same, but the senders pause while MAX_AHEAD webhooks wait.
 * 3. At half of that rate: from when a webhook is due until the service has it.
 * 4. Redis is killed: the rate at which the journal takes webhooks.
 *
 * Verdicts: CPU of edge and Redis per webhook at most that of nginx; every webhook is answered 2xx; each reaches its service once and
 * in order of its key. The senders' CPU, and that of the service, are in no sum. Needs nginx (rig/nginx-edge.ts names the packages).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Histogram } from "../checks/histogram.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { processUsage, type Usage } from "../checks/usage.ts";
import type { Fleet } from "../rig/fleet.ts";
import { HookBench, type HookBenchOptions, type Measured } from "../rig/hook-bench.ts";
import { hookParameters, hookSecret as secret } from "../rig/hook-parameters.ts";
import { HookSink } from "../rig/hook-sink.ts";
import { NginxEdge } from "../rig/nginx-edge.ts";
import { putRules } from "../rig/private-api.ts";
import { RedisUseReader } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import type { Role } from "../rig/server.ts";

const parameters = {
  seconds: parameter("SECONDS", 4, 1, 600),
  rounds: parameter("ROUNDS", 3, 1, 100),
  ...hookParameters,
  maxAhead: parameter("MAX_AHEAD", 2_000, 1, 100_000),
  rival: parameter("RIVAL", 1, 0, 1),
};
const stopWithinMs = 10_000;
/** For the gateway to notice that Redis is gone. */
const outageNoticedMs = 2_000;

type HookUsages = ReturnType<HookBenchOptions["usages"]>;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const journal = mkdtempSync(join(tmpdir(), "tidegate-journal-"));
  const sink = new HookSink();
  const gatewaySettings = { GITHUB_SECRET: secret, JOURNAL_DIR: journal };
  const deployment = await fleet.start({ gateways: 1, gatewaySettings });
  const reader = new RedisUseReader(deployment.redisUrl);
  const port = Number(new URL(deployment.gatewayUrls[0] ?? "").port);
  const roleUsages = (): Partial<Record<Role, Usage | undefined>> =>
    Object.fromEntries(fleet.processes.map(({ role, pid }) => [role, processUsage(pid)]));
  const nginx = parameters.rival === 1 ? await NginxEdge.start(deployment.redisUrl, secret) : undefined;
  try {
    await putRules(deployment, rules(await sink.url()));
    const [privateApi] = fleet.privateApis;
    await privateApi?.stop(stopWithinMs);
    const { seconds, connections, keys, bodyBytes, maxAhead } = parameters;
    const common = { target: "/hooks/github", secret, seconds, connections, keys, bodyBytes };
    const ours = new HookBench({ ...common, port, usages: roleUsages });
    const nginxUsages = (): HookUsages => ({ nginx: nginx?.usage, redis: roleUsages().redis });
    const theirs = nginx && new HookBench({ ...common, port: nginx.port, usages: nginxUsages });
    await ours.warmUp();
    const intake = { ours: [] as Measured[], theirs: [] as Measured[] };
    for (let round = 1; round <= parameters.rounds; round++) {
      say(`intake, round ${round} of ${parameters.rounds}`);
      intake.ours.push(await ours.measure());
      if (theirs) intake.theirs.push(await theirs.measure());
      await forgetItems(reader);
    }
    await nginx?.stop();
    await privateApi?.start();
    say("the whole way");
    const usages = (): HookUsages => ({ ...roleUsages(), service: sink.usage });
    const whole = new HookBench({ ...common, port, usages, processing: { sink, maxAhead } });
    await whole.measure();
    await sink.figures();
    const processed = await whole.measure();
    say(`half of ${processed.perSecond.toFixed(0)} webhooks a second`);
    await sink.figures();
    const half = await whole.measure(processed.perSecond / 2);
    const delivered = await sink.figures();
    reader.stop();
    await fleet.killRedis();
    say("without Redis");
    await pause(outageNoticedMs);
    const journaling = await new HookBench({ ...common, target: "/hooks/kept", port, usages: roleUsages }).measure();
    return report({ intake, processed, half, journaling, delivered });
  } finally {
    reader.stop();
    await nginx?.stop();
    await sink.stop();
    rmSync(journal, { recursive: true, force: true });
  }
}

function rules(url: string): object {
  const source = { verify: "github", secrets: ["env:GITHUB_SECRET"], key: "body:/key", id: "header:x-github-delivery" };
  return {
    services: { hooks: { url, secret: `whsec_${Buffer.alloc(32, 7).toString("base64")}`, maxInFlight: 1_000 } },
    quotas: { perTenant: 100_000_000, perSource: 100_000_000 },
    routes: [{ event: "push", service: "hooks", path: "/", mode: "enqueue" }],
    sources: { github: { ...source, route: "push" }, kept: { ...source, route: "push", journal: true } },
  };
}

/** Removes the items, and keeps rules. */
async function forgetItems({ client }: RedisUseReader): Promise<void> {
  for await (const found of client.scanStream({ match: "*:queues2:*", count: 1_000 }) as AsyncIterable<string[]>) {
    if (found.length > 0) await client.unlink(...found);
  }
  await client.unlink("queue");
  for await (const found of client.scanStream({ match: "id:*", count: 1_000 }) as AsyncIterable<string[]>) {
    if (found.length > 0) await client.unlink(...found);
  }
}

function report(measured: {
  intake: { ours: Measured[]; theirs: Measured[] };
  processed: Measured;
  half: Measured;
  journaling: Measured;
  delivered: { repeats: number; disordered: number; waitMs: Readonly<Record<string, ReturnType<Histogram["toJSON"]>>> };
}): ScenarioReport {
  const { intake, processed, half, journaling, delivered } = measured;
  const waitMs = new Histogram();
  for (const histogram of Object.values(delivered.waitMs)) waitMs.merge(histogram);
  const edge = ({ cpuMicros }: Measured): number =>
    (cpuMicros.gateway ?? 0) + (cpuMicros.nginx ?? 0) + (cpuMicros.redis ?? 0);
  const [oursMicros, theirsMicros] = [median(intake.ours, edge), median(intake.theirs, edge)];
  const all = [...intake.ours, ...intake.theirs, processed, half, journaling];
  const refused = all.reduce((sum, each) => sum + each.refused, 0);
  const verdicts: Verdict[] = [
    { title: "every webhook is answered 2xx", pass: refused === 0, value: refused },
    {
      title: "each webhook reaches the service once and in order of its key",
      pass: delivered.repeats + delivered.disordered === 0,
      value: `${delivered.repeats} repeats, ${delivered.disordered} out of order`,
    },
  ];
  if (intake.theirs.length > 0) {
    const share = oursMicros / theirsMicros;
    const title = "edge and Redis take at most as much CPU for a webhook as nginx, Lua and RPUSH";
    verdicts.unshift({ title, pass: share <= 1, value: `× ${share.toFixed(2)}` });
  }
  return {
    scenario: "webhooks",
    parameters,
    figures: {
      "half of that rate: until the service has a webhook, ms": `p50 ${fixed(waitMs.percentile(0.5))}, p99 ${fixed(waitMs.percentile(0.99))}`,
    },
    tables: [
      {
        columns: [
          "",
          "webhooks/s",
          "answer p50, ms",
          "p99",
          "CPU per webhook, µs: edge",
          "Redis",
          "private API",
          "service",
          "senders",
        ],
        rows: [
          row("intake: Tidegate", intake.ours),
          ...(intake.theirs.length > 0 ? [row("intake: nginx, Lua, RPUSH", intake.theirs)] : []),
          row("the whole way", [processed]),
          row("the whole way, half rate", [half]),
          row("journal, without Redis", [journaling]),
        ],
      },
    ],
    verdicts,
  };
}

/** Medians. */
function row(title: string, rounds: readonly Measured[]): (string | number)[] {
  const of = (read: (each: Measured) => number): number => fixed(median(rounds, read));
  return [
    title,
    Math.round(median(rounds, ({ perSecond }) => perSecond)),
    of(({ answerMs }) => answerMs.percentile(0.5)),
    of(({ answerMs }) => answerMs.percentile(0.99)),
    of(({ cpuMicros }) => (cpuMicros.gateway ?? 0) + (cpuMicros.nginx ?? 0)),
    ...(["redis", "private-api", "service", "senders"] as const).map((name) =>
      of(({ cpuMicros }) => cpuMicros[name] ?? 0),
    ),
  ];
}

function median(rounds: readonly Measured[], read: (each: Measured) => number): number {
  return percentile(rounds.map(read), 0.5);
}

function fixed(value: number): number {
  return Number(value.toFixed(1));
}

await runScenario(run);
