/**
 * Thousands of clients of one channel reconnect at once, each from a different old position.
 *
 *   npm run loadtest -- mass-return [--json]
 *   CLIENTS (5000) PUBLICATIONS (500) PAYLOAD_BYTES (64) RATE (2/s) DIALLING (500)
 *
 * Verdicts: each client gets every publication that it missed, once and in order, and those published meanwhile; history
 * is read a few times only; no service is called.
 * Exit code 0: every verdict passed.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { Position } from "../../shared/protocol/wire.ts";
import { metricValue, readMetrics } from "../checks/metrics.ts";
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { loadToken } from "../clients/load-token.ts";
import { ReturningClient } from "../clients/returning-client.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { serviceSecret } from "../rig/service-secret.ts";

const parameters = {
  clients: parameter("CLIENTS", 5_000, 1, 20_000),
  /** In the history; the clients' positions are spread over it. */
  publications: parameter("PUBLICATIONS", 500, 1, 1_000),
  payloadBytes: parameter("PAYLOAD_BYTES", 64, 0, 30_000),
  /** Publications per second while the clients reconnect. */
  ratePerSecond: parameter("RATE", 2, 0.1, 1_000),
  /** Connections that open at the same time: the kernel's queue of a listening port is short. */
  dialling: parameter("DIALLING", 500, 1, 5_000),
};
const maxHistoryReads = 5;
const endWithinMs = 60_000;
const channel = "board:storm";

/** What the processes did while the clients reconnected. */
interface Costs {
  readonly returnMs: number;
  readonly redisRangeCommands: number;
  readonly cpuMs: Readonly<Record<string, number>>;
}

let serviceCalls = 0;
const service = createServer((_request, response) => {
  serviceCalls++;
  response.writeHead(204).end();
});

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting redis, private-api and two gateways");
  // Admits all clients at once: the subject is the cost of recovery.
  const deployment = await fleet.start({ gatewaySettings: { GATEWAY_ADMISSIONS_PER_SECOND: "100000" } });
  service.listen(0, "127.0.0.1");
  await once(service, "listening");
  await putRulesWithService(deployment);
  const { epoch } = await publish(deployment, parameters.publications);
  const clients = await clientsOf(deployment, epoch);
  say(`${clients.length} clients reconnect`);
  const costs = await reconnectAll(deployment, clients);
  const { offset: end } = await publish(deployment, 1);
  const deadline = Date.now() + endWithinMs;
  const isBehind = ({ sequence, trouble }: ReturningClient): boolean => !trouble && sequence.reached < end;
  while (clients.some(isBehind) && Date.now() < deadline) await pause(50);

  const verdicts = await verdictsOn(deployment, clients, end);
  const times = clients.flatMap(({ returnedInMs }) => returnedInMs ?? []);
  const ms = (part: number): number => Math.round(percentile(times, part));
  const recoveries = (source: string): Promise<number> =>
    metricSum(deployment, `recoveries_total{outcome="${source}"}`);
  const trouble = [...new Set(clients.flatMap(({ trouble }) => trouble ?? []))].slice(0, 5);
  for (const client of clients) client.close();
  return {
    scenario: "mass-return",
    parameters,
    figures: {
      "all are back after, s": (costs.returnMs / 1_000).toFixed(2),
      "publications replayed": sum(clients, ({ replayed }) => replayed),
      "connect to recovered, ms: p50, p99": `${ms(0.5)}, ${ms(0.99)}`,
      "recovered from the tail": await recoveries("tail"),
      "recovered by a read of history": await recoveries("history"),
      "range commands on Redis (a read takes one for each 64 publications)": costs.redisRangeCommands,
      ...Object.fromEntries(
        Object.entries(costs.cpuMs).map(([role, cpu]) => [`CPU until all are back, ms: ${role}`, cpu]),
      ),
      ...Object.fromEntries(trouble.map((each, at) => [`trouble ${at + 1}`, each])),
    },
    verdicts,
  };
}

async function clientsOf({ gatewayUrls, jwtSecret }: OwnDeployment, epoch: string): Promise<ReturningClient[]> {
  const token = await loadToken(jwtSecret, "load", { channels: [channel] });
  return Array.from({ length: parameters.clients }, (_, i) => {
    const url = new URL(gatewayUrls[i % gatewayUrls.length] ?? "");
    const offset = (i * 7_919) % (parameters.publications + 1);
    return new ReturningClient({ url, token, channel, from: { epoch, offset } });
  });
}

/** Reconnects all clients, a bounded number at a time, while a publisher publishes at its rate. */
async function reconnectAll(deployment: OwnDeployment, clients: readonly ReturningClient[]): Promise<Costs> {
  const cpuBefore = cpuMsByRole(deployment.processes);
  const ownCpuBefore = process.cpuUsage();
  const commandsBefore = await rangeCommands(deployment);
  const startedAt = performance.now();
  let reconnecting = true;
  const publisher = (async () => {
    while (reconnecting) {
      await pause(1_000 / parameters.ratePerSecond);
      await publish(deployment, 1);
    }
  })();
  const waiting = [...clients];
  const dial = async (): Promise<void> => {
    for (let client = waiting.pop(); client; client = waiting.pop()) await client.connect();
  };
  await Promise.all(Array.from({ length: parameters.dialling }, dial));
  const returnMs = Math.round(performance.now() - startedAt);
  const cpuAfter = cpuMsByRole(deployment.processes);
  const ownCpu = process.cpuUsage(ownCpuBefore);
  reconnecting = false;
  await publisher;
  return {
    returnMs,
    redisRangeCommands: (await rangeCommands(deployment)) - commandsBefore,
    cpuMs: {
      ...Object.fromEntries([...cpuAfter].map(([role, ms]) => [role, ms - (cpuBefore.get(role) ?? 0)])),
      generator: Math.round((ownCpu.user + ownCpu.system) / 1_000),
    },
  };
}

/** @param end the offset of the last publication. */
async function verdictsOn(
  deployment: OwnDeployment,
  clients: readonly ReturningClient[],
  end: number,
): Promise<Verdict[]> {
  const historyReads = await metricSum(deployment, 'history_reads_total{kind="recover"}');
  const atMost = (title: string, value: number, bound: number): Verdict => ({ title, value, pass: value <= bound });
  const none = (title: string, count: (client: ReturningClient) => number): Verdict =>
    atMost(title, sum(clients, count), 0);
  return [
    none("every client recovered from its position", ({ recovered }) => (recovered ? 0 : 1)),
    none("every client got the last publication", ({ sequence }) => (sequence.reached < end ? 1 : 0)),
    none("no publication in between was lost", ({ sequence }) => sequence.lost),
    none("no publication came twice", ({ sequence }) => sequence.doubled + sequence.reordered),
    atMost(`history was read at most ${maxHistoryReads} times`, historyReads, maxHistoryReads),
    atMost("no service was called", serviceCalls, 0),
  ];
}

function sum<Item>(items: readonly Item[], count: (item: Item) => number): number {
  return items.reduce((total, item) => total + count(item), 0);
}

/** A counting service stands behind every event and the subscribe hook: a token that grants the channel needs neither. */
async function putRulesWithService(deployment: OwnDeployment): Promise<void> {
  const { port } = service.address() as AddressInfo;
  await putRules(deployment, {
    namespaces: { board: { historySize: 1_000 } },
    services: { counting: { url: `http://127.0.0.1:${port}`, secret: serviceSecret } },
    routes: [{ event: "*", service: "counting", path: "/", mode: "call" }],
    hooks: { subscribe: "counting" },
  });
}

/** @returns the channel's position afterwards. */
async function publish(deployment: OwnDeployment, count: number): Promise<Position> {
  const data = "x".repeat(parameters.payloadBytes);
  const items = Array.from({ length: count }, () => ({ channel, event: "moved", data }));
  const answers = (await callPrivateApi(deployment, "POST", "/v1/publish/batch", items)) as Position[];
  const last = answers.at(-1);
  if (last?.epoch === undefined) throw new Error(`a publish failed: ${JSON.stringify(last)}`);
  return { epoch: last.epoch, offset: last.offset };
}

/** Over all gateways. */
async function metricSum({ adminUrls }: OwnDeployment, series: string): Promise<number> {
  const pages = await Promise.all(adminUrls.map(async (url) => readMetrics(url)));
  return sum(pages, (page) => metricValue(page, series));
}

/** Without a client library: one command, one connection. */
async function rangeCommands({ redisUrl }: OwnDeployment): Promise<number> {
  const socket = connect(Number(new URL(redisUrl).port), "127.0.0.1");
  let answer = "";
  socket.on("data", (chunk: Buffer) => (answer += chunk.toString()));
  socket.end("INFO commandstats\r\n");
  await once(socket, "close");
  const calls = [...answer.matchAll(/cmdstat_x(?:rev)?range:calls=(\d+)/g)];
  return sum(calls, ([, count]) => Number(count));
}

await runScenario(run);
