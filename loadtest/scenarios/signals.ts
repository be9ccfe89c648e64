/**
 * Compares signals that could decide the number of nodes: connections, CPU, memory, load factor.
 *
 *   npm run loadtest -- signals [--json]
 *   CAP (2000 connections) IDLE_STEPS (4) MESSAGES (250/s for each chatty client) CHATTY_MOST (16000/s) CHATTY_STEPS (5)
 *   MESSAGE_BYTES (1024) FULL_NODES (10) ADMISSIONS (300/s)
 *
 * Two loads, many idle clients and few chatty ones, each run on one real node in steps, which reports its load (`/load`).
 * The size of a fleet under each signal is calculated from these steps. Exit code 0: the load factor neither overloads nor
 * wastes nodes, under both loads.
 */
import { setTimeout as pause } from "node:timers/promises";
import { type Dimension, dimensionNames, type Dimensions } from "../../shared/load/dimensions.ts";
import { loadFactor } from "../../shared/load/factor.ts";
import { Chatter } from "../clients/chatter.ts";
import { Crowd } from "../clients/crowd.ts";
import { loadToken } from "../clients/load-token.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { largestWork, MeasuredCurve } from "../checks/measured-curve.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { processUsage } from "../checks/usage.ts";

const parameters = {
  /** Connections per node. */
  cap: parameter("CAP", 2_000, 100, 10_000),
  idleSteps: parameter("IDLE_STEPS", 4, 2, 20),
  /** Of each chatty client. */
  messagesPerSecond: parameter("MESSAGES", 250, 1, 10_000),
  /** Messages per second of all chatty clients in the last step; each step before has half as many. */
  chattyMost: parameter("CHATTY_MOST", 16_000, 100, 1_000_000),
  chattySteps: parameter("CHATTY_STEPS", 5, 2, 20),
  messageBytes: parameter("MESSAGE_BYTES", 1_024, 1, 30_000),
  /** The fleet's load as a multiple of the load that fills one node. */
  fullNodes: parameter("FULL_NODES", 10, 1, 1_000),
  admissions: parameter("ADMISSIONS", 300, 1, 10_000),
};
const heapMiB = 256;
/** The load factor reaches 99 % of a step after 10 s. */
const settleMs = 14_000;
/** CPU is measured over this time at the end of a step. */
const cpuWindowMs = 5_000;
/** Upper bound of the calculated number of nodes. */
const mostNodes = 1_000;
/** A full node is at 1.0; the rest is tolerance of the measurement. */
const overloadedAbove = 1.05;
const wastedAbove = 1.25;

interface Step {
  /** Clients, or messages per second. */
  readonly work: number;
  readonly connections: number;
  readonly cores: number;
  readonly rssMiB: number;
  readonly dimensions: Dimensions;
}

/** The measured effect of one kind of load on a node. */
interface Load {
  readonly name: string;
  readonly steps: readonly Step[];
  /** The highest load dimension at that work. */
  readonly fullest: (work: number) => number;
  /** The work that fills one node. */
  readonly capacity: number;
}

const signals = {
  connections: { unit: "", read: ({ connections }: Step) => connections },
  CPU: { unit: " cores", read: ({ cores }: Step) => cores },
  memory: { unit: " MiB", read: ({ rssMiB }: Step) => rssMiB },
};

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const idle = loadOf("many idle", await measureIdle(fleet));
  await fleet.stop();
  const chatty = loadOf("few chatty", await measureChatty(fleet));
  const loads = [idle, chatty];

  const rows: (string | number)[][] = [];
  for (const [signal, { unit, read }] of Object.entries(signals)) {
    for (const calibration of loads) {
      const target = curve(calibration, read).at(calibration.capacity);
      const cells = loads.flatMap((load) => outcome(load, (work) => curve(load, read).at(work) <= target));
      rows.push([`${signal} alone`, `${rounded(target)}${unit}, by ${calibration.name}`, ...cells]);
    }
  }
  const byFactor = loads.map((load) => outcome(load, (work) => loadFactor(dimensionsAt(load, work)) <= 1));
  rows.push(["load factor", "1.0", ...byFactor.flat()]);
  return {
    scenario: "signals",
    parameters: { ...parameters, heapMiB },
    figures: Object.fromEntries(
      loads.map((load) => [`${load.name}: one node is full at`, `${Math.round(load.capacity)}: ${fullestAt(load)}`]),
    ),
    tables: [
      ...loads.map(({ name, steps }) => ({
        columns: [name, "connections", "cores", "RSS, MiB", "factor", ...dimensionNames],
        rows: steps.map(({ work, connections, cores, rssMiB, dimensions }) => [
          ...[work, connections, rounded(cores), Math.round(rssMiB), rounded(loadFactor(dimensions))],
          ...dimensionNames.map((dimension) => rounded(dimensions[dimension])),
        ]),
      })),
      {
        columns: ["signal", "target", ...loads.flatMap(({ name }) => [`${name}: nodes`, "fullest", "verdict"])],
        rows,
      },
    ],
    verdicts: loads.map(({ name }, i) => ({
      title: `the load factor neither overloads nor wastes nodes: ${name}`,
      pass: byFactor[i]?.[2] === "right",
      value: byFactor[i]?.join(", ") ?? "",
    })),
  };
}

async function measureIdle(fleet: Fleet): Promise<Step[]> {
  const deployment = await startOne(fleet);
  const crowds: Crowd[] = [];
  const steps = [await measure(fleet, deployment, 0)];
  try {
    for (let step = 1; step <= parameters.idleSteps; step++) {
      const clients = Math.floor(parameters.cap / parameters.idleSteps);
      const { gatewayUrls: urls, jwtSecret } = deployment;
      const channels = [`load:${step}`];
      const crowd = new Crowd({ processes: 1, sdk: 0, stock: clients, urls, channels, jwtSecret });
      crowds.push(crowd);
      await crowd.join({ perSecond: parameters.admissions * 0.7, withinMs: 120_000 });
      steps.push(await measure(fleet, deployment, clients * step));
    }
  } finally {
    await Promise.all(crowds.map(async (crowd) => crowd.leave()));
  }
  return steps;
}

async function measureChatty(fleet: Fleet): Promise<Step[]> {
  const deployment = await startOne(fleet);
  const token = await loadToken(deployment.jwtSecret, "load");
  const url = (deployment.gatewayUrls[0] ?? "").replace("ws", "http");
  const { messagesPerSecond, messageBytes: bytes, chattyMost, chattySteps } = parameters;
  const chatter = new Chatter({ url, token, bytes });
  const steps = [await measure(fleet, deployment, 0)];
  try {
    for (let halvings = chattySteps - 1; halvings >= 0; halvings--) {
      const perSecond = chattyMost / 2 ** halvings;
      await chatter.talk({ connections: Math.ceil(perSecond / messagesPerSecond), perSecond });
      steps.push(await measure(fleet, deployment, perSecond));
    }
  } finally {
    await chatter.stop();
  }
  return steps;
}

async function startOne(fleet: Fleet): Promise<OwnDeployment> {
  const deployment = await fleet.start({
    ...{ gateways: 1, heapMiB },
    gatewaySettings: {
      GATEWAY_MAX_CONNECTIONS: String(parameters.cap),
      GATEWAY_ADMISSIONS_PER_SECOND: String(parameters.admissions),
      GATEWAY_MESSAGES_PER_SECOND: "1000000",
    },
  });
  await putRules(deployment, { namespaces: { load: { access: "token" } } });
  return deployment;
}

async function measure(fleet: Fleet, { adminUrls }: OwnDeployment, work: number): Promise<Step> {
  await pause(settleMs);
  const pid = fleet.gateways[0]?.pid ?? 0;
  const before = processUsage(pid);
  await pause(cpuWindowMs);
  const after = processUsage(pid);
  if (!before || !after) throw new Error("the node has ended, or there is no /proc");
  const answer = await fetch(`${adminUrls[0]}/load`);
  const { connections, dimensions } = (await answer.json()) as { connections: number; dimensions: Dimensions };
  const cores = (after.cpuMs - before.cpuMs) / (after.atMs - before.atMs);
  say(`${work}: ${connections} connections, ${rounded(cores)} cores, factor ${rounded(loadFactor(dimensions))}`);
  return { work, connections, cores, rssMiB: after.rssBytes / 1024 ** 2, dimensions };
}

function loadOf(name: string, steps: readonly Step[]): Load {
  const load = { name, steps, capacity: 0, fullest: () => 0 };
  const fullest = (work: number): number => Math.max(...Object.values(dimensionsAt(load, work)));
  const upTo = (steps.at(-1)?.work ?? 0) * 100;
  return { ...load, fullest, capacity: largestWork((work) => fullest(work) <= 1, upTo) };
}

function curve({ steps }: Pick<Load, "steps">, read: (step: Step) => number): MeasuredCurve {
  return new MeasuredCurve(steps.map((step) => [step.work, read(step)]));
}

/** Admissions count as 0: no client joins once the load is there. */
function dimensionsAt(load: Pick<Load, "steps">, work: number): Dimensions {
  const at = (dimension: Dimension): number => curve(load, ({ dimensions }) => dimensions[dimension]).at(work);
  const values = dimensionNames.map((name) => [name, name === "admissions" ? 0 : at(name)]);
  return Object.fromEntries(values) as Dimensions;
}

/** @returns the number of nodes, the highest dimension of each node, and a verdict. */
function outcome(load: Load, satisfied: (workOfANode: number) => boolean): [number | string, number, string] {
  const work = load.capacity * parameters.fullNodes;
  const needed = nodesUntil((nodes) => load.fullest(work / nodes) <= 1.001);
  const nodes = nodesUntil((candidate) => satisfied(work / candidate));
  const fullest = rounded(load.fullest(work / nodes));
  if (fullest > overloadedAbove) return [nodes, fullest, `overloads × ${fullest}`];
  if (nodes > needed * wastedAbove) return [nodes, fullest, `wastes × ${rounded(nodes / needed)}`];
  return [nodes, fullest, "right"];
}

function nodesUntil(enough: (nodes: number) => boolean): number {
  let nodes = 1;
  while (nodes < mostNodes && !enough(nodes)) nodes++;
  return nodes;
}

function fullestAt(load: Load): string {
  const at = dimensionsAt(load, load.capacity);
  const fullest = dimensionNames.filter((name) => at[name] > 0.5).map((name) => `${name} ${rounded(at[name])}`);
  return fullest.join(", ");
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

await runScenario(run);
