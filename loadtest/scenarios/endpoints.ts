/**
 * How soon a change reaches every endpoint that wants it, with dead and slow endpoints among them.
 *
 *   npm run loadtest -- endpoints [--json]
 *   ENDPOINTS (1000) EACH (10 endpoints want the same channels) SECONDS (20 for each phase) RATE (changes/s; 0: half of what it takes)
 *   CHANNELS (20 for each group of endpoints) BURST (1000 changes) SLOW_MS (2000) ORIGINS (100) POLL_MS (500; 0 leaves the old way out)
 *
 * Real Redis, one private API, and the endpoints in one process, which checks that each gets every change once and in order. Bursts tell how many
 * deliveries a second it takes; after each, this process sends bare POSTs with the same signature, headers, body, origins and number of connections.
 * Then at a steady rate: all endpoints that are live; the same with 1 % dead ones (half refuse the connection, half never answer) and 5 % slow ones,
 * twice, the second time with the time of each stage of a delivery; the live ones again; changes that every endpoint wants; one endpoint; and the old
 * way, where each endpoint has a reader that polls. Reads of the log are compared at a low rate, for all endpoints and for one. Verdicts: order, reads
 * of the log, the P90 of live endpoints, their p99 beside dead and slow ones, the CPU of a delivery.
 */
import { randomBytes } from "node:crypto";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { PollingReaders, RedisLogs } from "../rig/polling-readers.ts";
import { DeliveryTracer } from "../rig/delivery-stages.ts";
import { EndpointBench, type Phase } from "../rig/endpoint-bench.ts";
import { EndpointBursts, warmUpBursts } from "../rig/endpoint-bursts.ts";
import { type Burst, cpuRatioOf, endpointReport, type MeasuredDeliveries } from "../rig/endpoint-report.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { HookSink } from "../rig/hook-sink.ts";
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
/** After those that warm the programs up. */
const bursts = 3;
/** So few deliveries a second that the reader has one change in a read: it takes several of a slot in one while it is busy. */
const readLoad = { perSecond: 200 / parameters.each, changes: Math.max(10, Math.round(1_000 / parameters.each)) };

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const { slowMs, origins, endpoints, each, channels } = parameters;
  const sink = new HookSink({ slowMs, origins });
  const tracer = await DeliveryTracer.create();
  const token = randomBytes(32).toString("base64url");
  const deployment = await fleet.start({
    gateways: 0,
    nodeFlags: tracer.nodeFlags,
    privateApiSettings: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8", ...tracer.settings },
    moreTokens: [{ name: "endpoints", token, scopes: ["endpoints"] }],
  });
  const cohorts = Math.max(1, Math.round(endpoints / each));
  const bench = new EndpointBench({ deployment, token, sink, cohorts, channels });
  try {
    await putRules(deployment, { namespaces: { load: { changes: true, historySize: 0 } } });
    return endpointReport(parameters, await measure({ bench, sink, tracer, deployment }));
  } finally {
    bench.stop();
    await sink.stop();
  }
}

async function measure(rig: {
  bench: EndpointBench;
  sink: HookSink;
  tracer: DeliveryTracer;
  deployment: OwnDeployment;
}): Promise<MeasuredDeliveries> {
  const { bench, sink, tracer, deployment } = rig;
  const { endpoints, each, seconds, pollMs } = parameters;
  const dead = Math.max(2, Math.round(endpoints * deadShare));
  const slow = Math.max(1, Math.round(endpoints * slowShare));
  const live = endpoints - dead - slow;
  say(`${live} live endpoints`);
  await bench.create("live", live);
  const burst = await burstOf(bench, sink);
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
  const api = deployment.processes.find(({ role }) => role === "private-api");
  const stages = await tracer.trace(api?.pid ?? 0, async () => bench.measure("traced", load));
  for (const kind of ["dead", "silent", "slow"] as const) await bench.remove(kind);
  const after = await bench.measure("after", load);
  say("changes for all");
  const rateToAll = (perSecond * each) / endpoints;
  const changesToAll = Math.max(5, Math.round(rateToAll * seconds));
  const toAll = await bench.measure("all", { perSecond: rateToAll, changes: changesToAll, to: "all" });
  const readForAll = await bench.measure("readforall", readLoad);
  say("one endpoint");
  await bench.remove("live", 1);
  const readForOne = await bench.measure("readforone", readLoad);
  const one = await bench.measure("one", load);
  await bench.remove("live");
  let polled: Phase | undefined;
  if (pollMs > 0) {
    say("the old way");
    const logs = new RedisLogs(deployment.redisUrl, (n) => bench.prefixOf(n));
    const readers = new PollingReaders({ logs, urls: await sink.urls(), pollMs });
    await readers.start(live);
    const publish = async (channel: string, change: object): Promise<void> =>
      logs.publish(channel.slice(0, channel.lastIndexOf(":") + 1), change);
    polled = await bench.measure("polled", { ...load, publish }, [live]);
    await readers.stop();
    logs.stop();
  }
  const received = await sink.figures();
  const reads = [readForAll, readForOne] as const;
  return { one, burst, alone: [before, after], mixed, stages, toAll, polled, reads, received };
}

/** The one in the middle by its CPU, of a bare POST's, once the programs are warm. */
async function burstOf(bench: EndpointBench, sink: HookSink): Promise<Burst> {
  const burst = new EndpointBursts({ bench, sink, changes: parameters.burst });
  const measured: Burst[] = [];
  for (let n = 0; n < warmUpBursts + bursts; n++) measured.push(await burst.measure());
  await burst.stop();
  const sorted = measured.slice(warmUpBursts).sort((a, b) => cpuRatioOf(a) - cpuRatioOf(b));
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (!middle) throw new Error("there was no burst");
  return middle;
}

await runScenario(run);
