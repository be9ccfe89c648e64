/**
 * A client's event through an `enqueue` route, from the gateway to the service: its wait while idle, and its cost under load.
 *
 *   npm run loadtest -- queue-path [--json]
 *   IDLE (500 events, one after the other) SECONDS (5 for each measurement under load) AT_ONCE (64) ROUNDS (3) KEYS (200)
 *
 * Real Redis, gateway, private API and service. Under load, calls and enqueued events to the same service alternate in each round;
 * the tables show medians. Verdicts: the idle wait until the service has the request is at most 3 ms (p50); an enqueued event takes less
 * CPU of the gateway than a call; fewer than 0.2 round trips to Redis and at most 12 of its commands for an item, from its enqueue to
 * its settlement; no event fails.
 */
import type { Socket } from "socket.io-client";
import { eventually } from "../../test/support/eventually.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { emitAtOnce, type Emitted } from "../clients/emit-at-once.ts";
import { loadToken } from "../clients/load-token.ts";
import { openStockSession } from "../clients/stock-session.ts";
import { startEcho } from "../rig/echo.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { RedisUseReader, useSince } from "../rig/redis-use.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import type { Role } from "../rig/server.ts";
import { serviceSecret as secret } from "../rig/service-secret.ts";
import { WitnessService } from "../rig/witness-service.ts";

const parameters = {
  idle: parameter("IDLE", 500, 10, 100_000),
  seconds: parameter("SECONDS", 5, 1, 600),
  atOnce: parameter("AT_ONCE", 64, 1, 1_000),
  rounds: parameter("ROUNDS", 3, 1, 100),
  keys: parameter("KEYS", 200, 1, 100_000),
};
const connections = 8;
const warmUpEvents = 2_000;
const idleP50Ms = 3;
const maxRoundTrips = 0.2;
const maxCommands = 12;
const drainWithinMs = 120_000;
const text = "about a hundred bytes of what an application sends";

interface Load {
  readonly events: number;
  readonly failed: number;
  readonly p50Ms: number;
  /** By role: of the gateway until the last ack, of the others until every item was delivered. */
  readonly cpuMicros: Readonly<Record<Role, number>>;
  readonly roundTrips: number;
  readonly commands: number;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const witness = new WitnessService();
  const echo = await startEcho();
  const deployment = await fleet.start({
    gateways: 1,
    // Above what a client may send by default: the limit is not the subject.
    gatewaySettings: { GATEWAY_MESSAGES_PER_SECOND: "1000000" },
  });
  const reader = new RedisUseReader(deployment.redisUrl);
  try {
    await putQueueRules(deployment, await witness.start(), echo.url);
    const sockets = await openSockets(deployment);
    const waits = await measureIdle(sockets[0], witness);
    const bench = new Bench(deployment, sockets, reader);
    await bench.warmUp();
    const loads = { call: [] as Load[], enqueue: [] as Load[] };
    for (let round = 1; round <= parameters.rounds; round++) {
      say(`round ${round} of ${parameters.rounds}`);
      loads.call.push(await bench.measure("call"));
      loads.enqueue.push(await bench.measure("enqueue"));
    }
    for (const socket of sockets) socket.disconnect();
    return report(waits, loads);
  } finally {
    reader.stop();
    witness.stop();
    echo.stop();
  }
}

async function putQueueRules(deployment: OwnDeployment, witnessUrl: string, echoUrl: string): Promise<void> {
  await putRules(deployment, {
    services: {
      witness: { url: witnessUrl, secret },
      echo: { url: echoUrl, secret },
    },
    quotas: { perTenant: 100_000_000 },
    routes: [
      { event: "idle", service: "witness", path: "/", mode: "enqueue", key: "/card" },
      { event: "enqueue", service: "echo", path: "/", mode: "enqueue", key: "/card" },
      { event: "call", service: "echo", path: "/", mode: "call" },
    ],
  });
}

async function openSockets({ jwtSecret, gatewayUrls: [url = ""] }: OwnDeployment): Promise<Socket[]> {
  const token = await loadToken(jwtSecret, "load");
  const sessions = await Promise.all(Array.from({ length: connections }, async () => openStockSession(url, { token })));
  return sessions.map(({ socket }) => socket);
}

/** @returns ms from each emit until the service has the request. */
async function measureIdle(socket: Socket | undefined, witness: WitnessService): Promise<number[]> {
  const waits: number[] = [];
  for (let number = 0; number < parameters.idle; number++) {
    const id = `idle-${number}`;
    const arrived = witness.next(id);
    const emittedAt = performance.now();
    const acked = socket?.emitWithAck("idle", { card: id, text });
    waits.push((await arrived) - emittedAt);
    await acked;
  }
  return waits;
}

class Bench {
  readonly #deployment: OwnDeployment;
  readonly #sockets: readonly Socket[];
  readonly #reader: RedisUseReader;
  #emptyKeys = 0;

  constructor(deployment: OwnDeployment, sockets: readonly Socket[], reader: RedisUseReader) {
    this.#deployment = deployment;
    this.#sockets = sockets;
    this.#reader = reader;
  }

  async warmUp(): Promise<void> {
    await this.#emit("call", (acked) => acked < warmUpEvents);
    await this.#emit("enqueue", (acked) => acked < warmUpEvents);
    this.#emptyKeys = await this.#keysOfEmptyQueues();
  }

  async measure(event: "call" | "enqueue"): Promise<Load> {
    const { processes } = this.#deployment;
    const cpuBefore = cpuMsByRole(processes);
    const before = await this.#reader.read();
    const until = performance.now() + parameters.seconds * 1_000;
    const { latencies, failed } = await this.#emit(event, () => performance.now() < until);
    const cpuAtLastAck = cpuMsByRole(processes);
    await eventually(async () => (await this.#reader.client.dbsize()) === this.#emptyKeys, drainWithinMs);
    const cpuAfter = cpuMsByRole(processes);
    const use = useSince(before, await this.#reader.read());
    const events = latencies.length;
    const micros = (role: Role): number => {
      const until = role === "gateway" ? cpuAtLastAck : cpuAfter;
      return (((until.get(role) ?? 0) - (cpuBefore.get(role) ?? 0)) * 1_000) / events;
    };
    return {
      ...{ events, failed, p50Ms: percentile(latencies, 0.5) },
      cpuMicros: { gateway: micros("gateway"), "private-api": micros("private-api"), redis: micros("redis") },
      roundTrips: use.roundTrips / events,
      commands: use.commands / events,
    };
  }

  async #emit(event: string, continues: (acked: number) => boolean): Promise<Emitted> {
    const data = (number: number): object => ({ card: number % parameters.keys, text });
    return emitAtOnce(this.#sockets, { event, data, atOnce: parameters.atOnce, continues });
  }

  /** Keys in Redis while no item waits. */
  async #keysOfEmptyQueues(): Promise<number> {
    await eventually(async () => {
      const answer = await callPrivateApi(this.#deployment, "GET", "/v1/queues", undefined);
      const { classes } = answer as { classes: { waiting: number; inFlight: number }[] };
      return classes.every(({ waiting, inFlight }) => waiting + inFlight === 0);
    }, drainWithinMs);
    return this.#reader.client.dbsize();
  }
}

interface Loads {
  readonly call: readonly Load[];
  readonly enqueue: readonly Load[];
}

function report(waits: readonly number[], loads: Loads): ScenarioReport {
  const columns = [
    "event",
    "events",
    "ack p50, ms",
    "CPU, µs: gateway",
    "private API",
    "Redis",
    "round trips",
    "commands",
  ];
  const rows = Object.entries(loads).map(([event, rounds]: [string, readonly Load[]]) => {
    const of = (read: (load: Load) => number): number => median(rounds, read);
    return [
      event,
      ...[of((load) => load.events), rounded(of((load) => load.p50Ms))],
      ...(["gateway", "private-api", "redis"] as const).map((role) => rounded(of((load) => load.cpuMicros[role]))),
      ...[rounded(of((load) => load.roundTrips)), rounded(of((load) => load.commands))],
    ];
  });
  const idle = `p50 ${rounded(percentile(waits, 0.5))}, p99 ${rounded(percentile(waits, 0.99))}`;
  return {
    scenario: "queue-path",
    parameters,
    figures: { "idle: emit until the service has the request, ms": idle },
    tables: [{ columns, rows }],
    verdicts: verdictsOn(percentile(waits, 0.5), loads),
  };
}

function verdictsOn(idleMs: number, { call, enqueue }: Loads): Verdict[] {
  const cpuShare =
    median(enqueue, ({ cpuMicros }) => cpuMicros.gateway) / median(call, ({ cpuMicros }) => cpuMicros.gateway);
  const roundTrips = median(enqueue, (load) => load.roundTrips);
  const commands = median(enqueue, (load) => load.commands);
  const failed = [...call, ...enqueue].reduce((sum, load) => sum + load.failed, 0);
  return [
    {
      title: `idle, the service has the request within ${idleP50Ms} ms (p50)`,
      pass: idleMs <= idleP50Ms,
      value: rounded(idleMs),
    },
    {
      title: "an enqueued event takes less CPU of the gateway than a call",
      pass: cpuShare < 1,
      value: `× ${cpuShare.toFixed(2)}`,
    },
    {
      title: `fewer than ${maxRoundTrips} round trips to Redis for an item`,
      pass: roundTrips < maxRoundTrips,
      value: rounded(roundTrips),
    },
    {
      title: `at most ${maxCommands} commands of Redis for an item`,
      pass: commands <= maxCommands,
      value: rounded(commands),
    },
    { title: "no event failed", pass: failed === 0, value: failed },
  ];
}

function median(loads: readonly Load[], read: (load: Load) => number): number {
  return percentile(loads.map(read), 0.5);
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

await runScenario(run);
