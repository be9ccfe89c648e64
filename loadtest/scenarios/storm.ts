/**
 * Clients connect all at once to a node with room for half of them while earlier sessions keep working.
 *
 *   npm run loadtest -- storm [--json]
 *   CLIENTS (4000) BEFORE (200) AGAIN_SECONDS (15) ADMISSIONS (1000/s)
 *
 * The refused clients then reconnect every 0.5 to 1.5 s, whatever time the refusal named. Verdicts: the cap holds exactly,
 * every refusal names a time to retry, no earlier session is dropped, health checks take at most 100 ms.
 * Exit code 0: every verdict passed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { type Spawned, spawnProcess } from "../../test/support/processes.ts";
import { metricValue, readMetrics } from "../checks/metrics.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { HealthFigures, type Latency, latencyFigures, type Times, usageFigures } from "../checks/storm-figures.ts";
import { processUsage, UsageRecorder } from "../checks/usage.ts";
import { loadToken } from "../clients/load-token.ts";
import { connectReader } from "../clients/reader.ts";
import type { StormTally } from "../clients/storm-process.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const clients = parameter("CLIENTS", 4_000, 10, 20_000);
const before = parameter("BEFORE", 200, 1, 2_000);
const againSeconds = parameter("AGAIN_SECONDS", 15, 1, 120);
const admissions = parameter("ADMISSIONS", 1_000, 1, 100_000);
const cap = Math.floor(clients / 2);
const quietSeconds = 10;
const publishEveryMs = 50;
const channel = "load:storm";
const healthWithinMs = 100;
/** Without a limit the heap grows by garbage that was never collected, and memory says nothing about what piles up. */
const heapMiB = 256;
const root = `${import.meta.dirname}/../..`;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting redis, private-api and a gateway");
  const deployment = await fleet.start({
    gateways: 1,
    heapMiB,
    gatewaySettings: {
      GATEWAY_MAX_CONNECTIONS: String(cap),
      GATEWAY_ADMISSIONS_PER_SECOND: String(admissions),
    },
  });
  const [adminUrl = ""] = deployment.adminUrls;
  await putRules(deployment, { namespaces: { load: { historySize: 100 } } });
  const sessions = await earlierSessions(deployment);
  const gateway = deployment.processes.find(({ role }) => role === "gateway");
  const usage = new UsageRecorder(() => (gateway ? processUsage(gateway.pid) : undefined));
  usage.start();
  const probe = startHealthProbe(adminUrl);
  const publishing = new AbortController();
  const publisher = publish(deployment, publishing.signal);
  say(`${before} sessions, quiet for ${quietSeconds} s`);
  const quietFrom = Date.now() + 1_000;
  await pause(quietSeconds * 1_000);

  say(`${clients} clients connect at once; ${cap - before} places are free`);
  const stormFrom = Date.now();
  const seats = new SeatSampler(adminUrl);
  const sampling = seats.run();
  const storm = await startStorm(deployment);
  const once = JSON.parse((await storm.printed("once ")).slice(5)) as StormTally;
  const againFrom = Date.now();
  say(
    `every client has an answer after ${((againFrom - stormFrom) / 1_000).toFixed(1)} s; the refused ones reconnect for ${againSeconds} s`,
  );
  const again = JSON.parse((await storm.printed("again ")).slice(6)) as StormTally;
  const times = { quietFrom, stormFrom, againFrom, until: Date.now() };
  publishing.abort();
  await publisher;
  usage.stop();
  seats.stop();
  await sampling;
  const droppedInStorm = sessions.dropped();
  storm.kill("SIGKILL");
  probe.kill("SIGKILL");

  const health = new HealthFigures(probe.output());
  return {
    scenario: "storm",
    parameters: { clients, cap, before, admissionsPerSecond: admissions, againSeconds },
    figures: {
      "all at once: answered within, s": ((againFrom - stormFrom) / 1_000).toFixed(1),
      ...tallyFigures("all at once", once),
      ...tallyFigures("reconnecting", again),
      ...health.figures(times),
      "longest delay of the event loop, ms": Math.round(seats.longestDelayMs),
      ...latencyFigures(sessions.latencies, times),
      ...usageFigures(usage, times),
    },
    verdicts: verdictsOn({ once, again, droppedInStorm, mostSeats: seats.most, health, times }),
  };
}

async function earlierSessions(
  deployment: OwnDeployment,
): Promise<{ latencies: readonly Latency[]; dropped: () => number }> {
  const latencies: Latency[] = [];
  let dropped = 0;
  for (let i = 0; i < before; i++) {
    const client = await connectReader(deployment, 0);
    await client.subscribe(channel);
    client.onEvent = (event, data) => {
      if (event === "tick") latencies.push({ at: Date.now(), ms: Date.now() - (data as { at: number }).at });
    };
    void client.closed.then(() => dropped++);
  }
  return { latencies, dropped: () => dropped };
}

function startHealthProbe(adminUrl: string): Spawned {
  return spawnProcess(process.execPath, ["loadtest/checks/health-probe.ts"], {
    cwd: root,
    env: { PROBE_URL: adminUrl },
  });
}

async function startStorm({ gatewayUrls, jwtSecret }: OwnDeployment): Promise<Spawned> {
  const token = await loadToken(jwtSecret, "storm", { channels: ["load:*"] });
  return spawnProcess(process.execPath, ["loadtest/clients/storm-process.ts"], {
    cwd: root,
    env: {
      STORM_URL: (gatewayUrls[0] ?? "").replace("ws", "http"),
      STORM_TOKEN: token,
      STORM_CLIENTS: String(clients),
      STORM_SECONDS: String(againSeconds),
    },
  });
}

function verdictsOn(seen: {
  once: StormTally;
  again: StormTally;
  droppedInStorm: number;
  mostSeats: number;
  health: HealthFigures;
  times: Times;
}): Verdict[] {
  const { once, again, health } = seen;
  const { stormFrom, until } = seen.times;
  const both = (field: "welcomed" | "lost" | "withoutTime" | "unanswered"): number => once[field] + again[field];
  return [
    exactly("the cap holds: welcome sessions, earlier ones included", before + both("welcomed") - both("lost"), cap),
    atMost("most seats taken at any time", seen.mostSeats, cap),
    atMost("refusals that name no time to retry", both("withoutTime"), 0),
    atMost("clients without an answer", both("unanswered"), 0),
    atMost("sessions that were dropped", seen.droppedInStorm + both("lost"), 0),
    atMost("health checks that failed", health.sum("failed", stormFrom, until), 0),
    atMost(
      `ms of the slowest health check, of ${healthWithinMs}`,
      Math.round(health.slowestMs(stormFrom, until)),
      healthWithinMs,
    ),
  ];
}

function tallyFigures(title: string, tally: StormTally): Record<string, string | number> {
  const { welcomed, atCapacity, rateLimited, otherRefusals, unavailable, retryAfterMs } = tally;
  const seconds = [retryAfterMs.p1, retryAfterMs.p99].map((ms) => (ms / 1_000).toFixed(1));
  return {
    [`${title}: welcome`]: welcomed,
    [`${title}: at_capacity, rate_limited, other, 503`]: `${atCapacity}, ${rateLimited}, ${otherRefusals}, ${unavailable}`,
    [`${title}: time to retry, s (p1 – p99)`]: seconds.join(" – "),
  };
}

/** Samples the node's own metrics: seats taken, delay of the event loop. */
class SeatSampler {
  readonly #adminUrl: string;
  longestDelayMs = 0;
  /** NaN where the metric is missing: the verdict fails. */
  most = 0;
  #stopped = false;

  constructor(adminUrl: string) {
    this.#adminUrl = adminUrl;
  }

  async run(): Promise<void> {
    while (!this.#stopped) {
      const page = await readMetrics(this.#adminUrl, 30_000);
      this.most = Math.max(this.most, metricValue(page, "seats", Number.NaN));
      const delaySeconds = Number(/^nodejs_eventloop_lag_max_seconds (\S+)/m.exec(page)?.[1]) || 0;
      this.longestDelayMs = Math.max(this.longestDelayMs, delaySeconds * 1_000);
      await pause(250);
    }
  }

  stop(): void {
    this.#stopped = true;
  }
}

async function publish(deployment: OwnDeployment, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const item = { channel, event: "tick", data: { at: Date.now() } };
    await callPrivateApi(deployment, "POST", "/v1/publish", item).catch((error: unknown) => say(String(error)));
    await pause(publishEveryMs);
  }
}

function exactly(title: string, value: number, expected: number): Verdict {
  return { title: `${title}: ${expected}`, pass: value === expected, value };
}

function atMost(title: string, value: number, bound: number): Verdict {
  return { title, pass: value <= bound, value };
}

await runScenario(run);
