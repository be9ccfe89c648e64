/**
 * An autoscaler that reads only `/v1/load` starts and stops nodes while the number of k6's clients rises and falls.
 *
 *   npm run loadtest -- autoscale [--json]
 *   CLIENTS (1500) CAP (300 connections per node) CHANNELS (10) RATE (10/s) ADMISSIONS (300/s)
 *   UP (90 s) HOLD (30 s) DOWN (90 s) DECIDE_EVERY (3 s) SHRINK_AFTER (15 s)
 *
 * Needs k6 and HAProxy. Prints a line every 5 s. Exit code 0: the nodes followed the clients, and no client lost anything.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Autoscaler } from "../rig/autoscaler.ts";
import { Balancer } from "../rig/balancer.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { findK6, startK6 } from "../rig/k6.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { SteadyPublisher } from "../rig/steady-publisher.ts";

const parameters = {
  clients: parameter("CLIENTS", 1_500, 10, 10_000),
  /** Connections per node: few, so that one machine shows the behaviour of a large fleet. */
  cap: parameter("CAP", 300, 10, 10_000),
  channels: parameter("CHANNELS", 10, 1, 1_000),
  rate: parameter("RATE", 10, 0.1, 1_000),
  admissions: parameter("ADMISSIONS", 300, 1, 10_000),
  /** Seconds in which clients join, stay, and leave. */
  up: parameter("UP", 90, 1, 3_600),
  hold: parameter("HOLD", 30, 1, 3_600),
  down: parameter("DOWN", 90, 1, 3_600),
  decideEvery: parameter("DECIDE_EVERY", 3, 1, 60),
  shrinkAfter: parameter("SHRINK_AFTER", 15, 1, 600),
};
const drainSeconds = 20;
const leastNodes = 2;
/** Enough for the clients, one lost node, and nodes that drain meanwhile. */
const seats = Math.ceil(parameters.clients / parameters.cap) + 5;
const lineEveryMs = 5_000;
/** From the last client's end until the spare nodes have stopped. */
const shrinkWithinMs = 120_000;

interface Line {
  readonly seconds: number;
  readonly clients: number;
  readonly connections: number;
  readonly nodes: number;
  readonly draining: number;
  readonly mean: number;
  readonly max: number;
  readonly desired: number;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const k6Path = findK6();
  const deployment = await fleet.start({
    gateways: leastNodes,
    gatewaySeats: seats,
    gatewaySettings: {
      GATEWAY_MAX_CONNECTIONS: String(parameters.cap),
      GATEWAY_ADMISSIONS_PER_SECOND: String(parameters.admissions),
      GATEWAY_DRAIN_SECONDS: String(drainSeconds),
    },
  });
  await putRules(deployment, { namespaces: { load: { access: "token", historySize: 1_000 } } });
  const balancer = await Balancer.start(deployment);
  const channels = Array.from({ length: parameters.channels }, (_, i) => `load:${i}`);
  const publisher = new SteadyPublisher(deployment, { channels });
  const autoscaler = new Autoscaler({
    ...{ deployment, seats: fleet.gateways },
    everyMs: parameters.decideEvery * 1_000,
    shrinkAfterMs: parameters.shrinkAfter * 1_000,
    stopWithinMs: (drainSeconds + 15) * 1_000,
  });
  const lines: Line[] = [];
  const startedAt = Date.now();
  const addLine = (): void => {
    const seconds = Math.round((Date.now() - startedAt) / 1_000);
    const { load } = autoscaler;
    if (!load) return;
    const draining = load.items.filter(({ state }) => state === "draining").length;
    const { nodes, mean, max, desiredNodes: desired } = load;
    const connections = load.items.reduce((sum, item) => sum + item.connections, 0);
    lines.push({ seconds, clients: clientsAt(seconds), connections, nodes, draining, mean, max, desired });
    say(
      Object.entries(lines.at(-1) ?? {})
        .map(([name, value]) => `${name} ${value}`)
        .join("  "),
    );
  };
  const timeline = setInterval(addLine, lineEveryMs);
  publisher.start(parameters.rate);
  autoscaler.start();
  try {
    const counts = await runClients(k6Path, deployment, balancer.url);
    const emptySince = Date.now();
    const isSmall = (): boolean => (lines.at(-1)?.nodes ?? 0) <= leastNodes;
    while (!isSmall() && Date.now() - emptySince < shrinkWithinMs) await pause(lineEveryMs / 10);
    return report(autoscaler, lines, counts, publisher.failed);
  } finally {
    clearInterval(timeline);
    await autoscaler.stop();
    await publisher.stop();
    await balancer.stop();
  }
}

/** The number of clients that k6 should have. */
function clientsAt(seconds: number): number {
  const { clients, up, hold, down } = parameters;
  const share = Math.min(1, seconds / up, Math.max(0, (up + hold + down - seconds) / down));
  return Math.round(clients * share);
}

async function runClients(
  k6Path: string,
  { jwtSecret }: OwnDeployment,
  url: string,
): Promise<Readonly<Record<string, number>>> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-load-"));
  const k6 = startK6(k6Path, "autoscale.js", {
    CLIENTS: String(parameters.clients),
    CHANNELS: String(parameters.channels),
    UP: String(parameters.up),
    HOLD: String(parameters.hold),
    DOWN: String(parameters.down),
    ENGINES: "4",
    GATEWAY_URLS: url,
    AUTH_JWT_SECRET: jwtSecret,
    RESULT_FILE: join(folder, "result.json"),
  });
  try {
    const exitCode = await k6.exited;
    if (exitCode !== 0) throw new Error(`k6 exited with code ${exitCode}: ${k6.output().slice(0, 2_000)}`);
    return JSON.parse(await readFile(join(folder, "result.json"), "utf8")) as Record<string, number>;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function report(
  autoscaler: Autoscaler,
  lines: readonly Line[],
  counts: Readonly<Record<string, number>>,
  publishFailed: number,
): ScenarioReport {
  const count = (name: string): number => counts[name] ?? Number.NaN;
  const most = Math.max(...lines.map(({ nodes, draining }) => nodes - draining));
  const needed = Math.ceil(parameters.clients / parameters.cap);
  const last = lines.at(-1)?.nodes ?? Number.NaN;
  const none = (title: string, value: number): { title: string; pass: boolean; value: number } => {
    return { title, pass: value === 0, value };
  };
  return {
    scenario: "autoscale",
    parameters,
    figures: {
      "nodes started, stopped": `${autoscaler.started}, ${autoscaler.stopped}`,
      "largest factor of any node": Math.max(...lines.map(({ max }) => max)),
      "clients joined, reconnected, of these resumed": `${count("joined")}, ${count("returned")}, ${count("resumed")}`,
      "refusals, each with a time to retry": count("refused"),
      "publications received": count("received"),
    },
    tables: [{ columns: Object.keys(lines[0] ?? {}), rows: lines.map((line) => Object.values(line) as number[]) }],
    verdicts: [
      {
        title: `enough nodes for all clients: ${needed} of ${parameters.cap} connections`,
        pass: most >= needed,
        value: most,
      },
      { title: `${leastNodes} nodes at the end`, pass: last === leastNodes, value: last },
      none("every node exited with code 0", autoscaler.badEnds),
      none("no client missed a publication", count("missed") + count("signalled")),
      none("no publication came twice or out of order", count("doubled") + count("reordered")),
      none("every client was connected when it left", count("unfinished")),
      none("every publication was accepted", publishFailed),
    ],
  };
}

await runScenario(run);
