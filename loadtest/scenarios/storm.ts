/**
 * Everybody comes at once to a node that has room for half of them, while sessions that are there go on.
 *
 *   npm run loadtest -- storm [--json]      CLIENTS (4000)  BEFORE (200)  AGAIN_SECONDS (15)  ADMISSIONS (1000 a second)
 *
 * Then those who were refused come back by themselves every 0.5 to 1.5 s, whatever they were told. Verdicts: the cap
 * holds exactly, whoever is refused is told when to come back, nobody who was there is dropped, health checks are
 * answered within 100 ms. Exit code 0: every verdict passed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { SignJWT } from "jose";
import { spawnProcess } from "../../test/support/processes.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { connectReader } from "../clients/reader.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import type { Tally } from "../clients/storm-process.ts";
import type { ProbedSecond } from "../checks/health-probe.ts";
import { processUsage, UsageRecorder } from "../checks/usage.ts";

const clients = parameter("CLIENTS", 4_000, 10, 20_000);
const before = parameter("BEFORE", 200, 1, 2_000);
const againSeconds = parameter("AGAIN_SECONDS", 15, 1, 120);
const admissions = parameter("ADMISSIONS", 1_000, 1, 100_000);
const cap = Math.floor(clients / 2);
const quietSeconds = 10;
const publishEveryMs = 50;
const channel = "load:storm";
const healthWithinMs = 100;
/** Of Node's programs: without it a heap grows by what was never collected, and says nothing about what piles up. */
const heapMiB = 256;
const root = `${import.meta.dirname}/../..`;

interface Latency {
  at: number;
  ms: number;
}

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
  const [gatewayUrl = "", adminUrl = ""] = [deployment.gatewayUrls[0], deployment.adminUrls[0]];
  await putRules(deployment, { namespaces: { load: { historySize: 100 } } });
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
  const gateway = deployment.processes.find(({ role }) => role === "gateway");
  const usage = new UsageRecorder(() => (gateway ? processUsage(gateway.pid) : undefined));
  usage.start();
  const seats = new SeatSampler(adminUrl);
  const probe = spawnProcess(process.execPath, ["loadtest/checks/health-probe.ts"], {
    cwd: root,
    env: { PROBE_URL: adminUrl },
  });
  const publishing = new AbortController();
  const publisher = publish(deployment, publishing.signal);
  say(`${before} sessions, quiet for ${quietSeconds} s`);
  const quietFrom = Date.now() + 1_000;
  await pause(quietSeconds * 1_000);

  say(`${clients} clients come at once; ${cap - before} places are free`);
  const stormFrom = Date.now();
  const sampled = seats.run();
  const token = await tokenFor(deployment);
  const storm = spawnProcess(process.execPath, ["loadtest/clients/storm-process.ts"], {
    cwd: root,
    env: {
      STORM_URL: gatewayUrl.replace("ws", "http"),
      STORM_TOKEN: token,
      STORM_CLIENTS: String(clients),
      STORM_SECONDS: String(againSeconds),
    },
  });
  const once = JSON.parse((await storm.printed("once ")).slice(5)) as Tally;
  const againFrom = Date.now();
  say(
    `each has its answer after ${((againFrom - stormFrom) / 1_000).toFixed(1)} s; those outside come back for ${againSeconds} s`,
  );
  const again = JSON.parse((await storm.printed("again ")).slice(6)) as Tally;
  const until = Date.now();
  publishing.abort();
  await publisher;
  usage.stop();
  const seatsSeen = seats.stop();
  await sampled;
  const droppedInStorm = dropped;
  storm.kill("SIGKILL");
  probe.kill("SIGKILL");

  const seconds = probe
    .output()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ProbedSecond);
  const health = (from: number, to: number): ProbedSecond[] =>
    seconds.filter(({ at }) => at > from && at <= to + 1_000);
  const slowest = (of: ProbedSecond[]): number => Math.round(Math.max(0, ...of.map(({ slowestMs }) => slowestMs)));
  const stormHealth = health(stormFrom, until);
  const p99 = (from: number, to: number): number =>
    Math.round(
      percentile(
        latencies.filter(({ at }) => at >= from && at < to).map(({ ms }) => ms),
        0.99,
      ),
    );
  const mib = (bytes = 0): number => Math.round(bytes / 1024 / 1024);
  const unanswered = once.unanswered + again.unanswered;
  const verdicts: Verdict[] = [
    exactly(
      "the cap holds: sessions that were welcome, those from before included",
      before + once.welcomed + again.welcomed - once.lost - again.lost,
      cap,
    ),
    atMost("and no more seats were ever taken", seatsSeen, cap),
    atMost("refused without being told when to come back", once.untold + again.untold, 0),
    atMost("left without an answer", unanswered, 0),
    atMost("sessions that were there and were dropped", droppedInStorm + once.lost + again.lost, 0),
    atMost(
      "health checks that failed",
      stormHealth.reduce((sum, { failed }) => sum + failed, 0),
      0,
    ),
    atMost(`ms of the slowest health check, of ${healthWithinMs}`, slowest(stormHealth), healthWithinMs),
  ];
  return {
    scenario: "storm",
    parameters: { clients, cap, before, admissionsPerSecond: admissions, againSeconds },
    figures: {
      "all at once: answered within, s": ((againFrom - stormFrom) / 1_000).toFixed(1),
      ...tallied("all at once", once),
      ...tallied("coming back", again),
      "health checks in the storm": stormHealth.reduce((sum, { checks }) => sum + checks, 0),
      "… slower than 100 ms": stormHealth.reduce((sum, { slow }) => sum + slow, 0),
      "… slowest, ms (quiet)": `${slowest(stormHealth)} (${slowest(health(quietFrom, stormFrom - 1_000))})`,
      "… slowest: all at once, coming back": `${slowest(health(stormFrom, againFrom))}, ${slowest(health(againFrom + 1_000, until))}`,
      "the event loop was late by, at most, ms": Math.round(seats.lateMs),
      "publish → receive p99, ms: quiet": p99(quietFrom, stormFrom),
      "… all at once": p99(stormFrom, againFrom),
      "… coming back": p99(againFrom, until),
      "RSS, MiB: before, peak": `${mib(usage.at(stormFrom)?.rssBytes)}, ${mib(usage.peakBytes(stormFrom, until))}`,
      "CPU of the gateway, cores: quiet": cores(usage, quietFrom, stormFrom),
      "… while they come back": cores(usage, againFrom, until),
    },
    verdicts,
  };
}

function tallied(title: string, tally: Tally): Record<string, string | number> {
  const { welcomed, atCapacity, rateLimited, otherRefusals, turnedAway, toldMs } = tally;
  const told = [toldMs.p1, toldMs.p99].map((ms) => (ms / 1_000).toFixed(1));
  return {
    [`${title}: welcome`]: welcomed,
    [`${title}: at_capacity, rate_limited, other, 503`]: `${atCapacity}, ${rateLimited}, ${otherRefusals}, ${turnedAway}`,
    [`${title}: told to come back after, s (p1 – p99)`]: told.join(" – "),
  };
}

function cores(usage: UsageRecorder, from: number, to: number): string {
  const [first, last] = [usage.at(from), usage.at(to)];
  return first && last ? ((last.cpuMs - first.cpuMs) / (last.atMs - first.atMs)).toFixed(2) : "?";
}

/** The most seats that the node says are taken, looked at all the time. */
class SeatSampler {
  readonly #adminUrl: string;
  /** Ms that the event loop was late at most. */
  lateMs = 0;
  #most = 0;
  #stopped = false;

  constructor(adminUrl: string) {
    this.#adminUrl = adminUrl;
  }

  async run(): Promise<void> {
    while (!this.#stopped) {
      const text = await (await fetch(`${this.#adminUrl}/metrics`)).text();
      // Not a number where it is missing: the verdict fails.
      this.#most = Math.max(this.#most, Number(/^tidegate_seats (\d+)/m.exec(text)?.[1] ?? Number.NaN));
      this.lateMs = Math.max(
        this.lateMs,
        Number(/^nodejs_eventloop_lag_max_seconds (\S+)/m.exec(text)?.[1]) * 1_000 || 0,
      );
      await pause(250);
    }
  }

  stop(): number {
    this.#stopped = true;
    return this.#most;
  }
}

async function publish(deployment: OwnDeployment, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const answer = await fetch(`${deployment.privateApi}/v1/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${deployment.privateApiToken}`, "content-type": "application/json" },
      body: JSON.stringify({ channel, event: "tick", data: { at: Date.now() } }),
    });
    await answer.arrayBuffer();
    await pause(publishEveryMs);
  }
}

async function tokenFor({ jwtSecret }: OwnDeployment): Promise<string> {
  return new SignJWT({ channels: ["load:*"] })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject("storm")
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(jwtSecret));
}

function exactly(title: string, value: number, expected: number): Verdict {
  return { title: `${title}: ${expected}`, pass: value === expected, value };
}

function atMost(title: string, value: number, bound: number): Verdict {
  return { title, pass: value <= bound, value };
}

await runScenario(run);
