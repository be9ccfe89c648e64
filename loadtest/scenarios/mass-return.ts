/**
 * Thousands of clients of one channel come back at once, each from another old position.
 *
 *   npm run loadtest -- mass-return [--json]      parameters by environment: see `parameters`
 *
 * Verdicts: each gets everything it missed, once and in order, and what is published meanwhile; history is read a few
 * times only; no service is called. Exit code 0: every verdict passed; 1: not, or it could not run.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { SignJWT } from "jose";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { Fleet, type OwnDeployment, type ServerProcess } from "../rig/fleet.ts";
import { LeanClient } from "../clients/lean-client.ts";
import { parameter } from "../rig/scenario.ts";
import { processUsage } from "../checks/usage.ts";

const flags = readArguments({ "--json": toggle() });

const parameters = {
  clients: parameter("CLIENTS", 5_000, 1, 20_000),
  /** In the history; the clients stand all over it. */
  publications: parameter("PUBLICATIONS", 500, 1, 1_000),
  payloadBytes: parameter("PAYLOAD_BYTES", 64, 0, 30_000),
  /** Publications per second while they return. */
  ratePerSecond: parameter("RATE", 2, 0.1, 1_000),
  /** Connections that are being opened at the same time: the kernel's queue of a listening port is short. */
  dialling: parameter("DIALLING", 500, 1, 5_000),
};
const maxHistoryReads = 5;
const endWithinMs = 60_000;
const channel = "board:storm";

interface Verdict {
  title: string;
  metric: string;
  value: number;
  pass: boolean;
}

const fleet = new Fleet();
let serviceCalls = 0;
const service = createServer((_request, response) => {
  serviceCalls++;
  response.writeHead(204).end();
});

async function main(): Promise<boolean> {
  say("starting redis, private-api and two gateways");
  // All at once: what recovery costs is looked for.
  const deployment = await fleet.start({ gatewaySettings: { GATEWAY_ADMISSIONS_PER_SECOND: "100000" } });
  service.listen(0, "127.0.0.1");
  await once(service, "listening");
  await putRules(deployment);
  const data = "x".repeat(parameters.payloadBytes);
  let last = await publish(deployment, parameters.publications, data);
  const token = await new SignJWT({ channels: [channel] })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject("load")
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(deployment.jwtSecret));
  const clients = Array.from({ length: parameters.clients }, (_, i) => {
    const url = new URL(deployment.gatewayUrls[i % deployment.gatewayUrls.length] ?? "");
    const offset = (i * 7_919) % (parameters.publications + 1);
    return new LeanClient({ url, token, channel, from: { epoch: last.epoch, offset } });
  });

  say(`${clients.length} clients return`);
  const cpuBefore = cpuMs(deployment.processes);
  const ownCpuBefore = process.cpuUsage();
  const commandsBefore = await rangeCommands(deployment);
  const startedAt = performance.now();
  let returning = true;
  const publisher = (async () => {
    while (returning) {
      await pause(1_000 / parameters.ratePerSecond);
      last = await publish(deployment, 1, data);
    }
  })();
  const waiting = [...clients];
  const dial = async (): Promise<void> => {
    for (let client = waiting.pop(); client; client = waiting.pop()) await client.comeBack();
  };
  await Promise.all(Array.from({ length: parameters.dialling }, dial));
  const returnMs = performance.now() - startedAt;
  const cpuAfter = cpuMs(deployment.processes);
  const ownCpu = process.cpuUsage(ownCpuBefore);
  returning = false;
  await publisher;
  last = await publish(deployment, 1, data);
  const { offset: end } = last;
  const deadline = Date.now() + endWithinMs;
  while (clients.some(({ reached, trouble }) => !trouble && reached < end) && Date.now() < deadline) await pause(50);

  const historyReads = await metricSum(deployment, 'history_reads_total{kind="recover"}');
  const fromTail = await metricSum(deployment, 'recoveries_total{outcome="tail"}');
  const fromHistory = await metricSum(deployment, 'recoveries_total{outcome="history"}');
  const commandsAfter = await rangeCommands(deployment);
  const sum = (count: (client: LeanClient) => number): number =>
    clients.reduce((total, client) => total + count(client), 0);
  const notRecovered = sum(({ recovered }) => (recovered ? 0 : 1));
  const atMost = (title: string, metric: string, value: number, bound: number): Verdict => ({
    title,
    metric,
    value,
    pass: value <= bound,
  });
  const verdicts = [
    atMost("every client recovered from its position", "not_recovered", notRecovered, 0),
    atMost(
      "and got everything up to the last publication",
      "incomplete",
      sum(({ reached }) => (reached < end ? 1 : 0)),
      0,
    ),
    atMost(
      "nothing was lost in between",
      "lost",
      sum(({ lost }) => lost),
      0,
    ),
    atMost(
      "nothing came twice",
      "doubled",
      sum(({ doubled }) => doubled),
      0,
    ),
    atMost(`history was read at most ${maxHistoryReads} times`, "history_reads", historyReads, maxHistoryReads),
    atMost("no service was called", "service_calls", serviceCalls, 0),
    atMost("every server ran to the end", "died", fleet.died.length, 0),
  ];
  const times = clients.flatMap(({ returnedInMs }) => returnedInMs ?? []).sort((a, b) => a - b);
  const report = {
    parameters,
    pass: verdicts.every(({ pass }) => pass),
    verdicts,
    returnMs: Math.round(returnMs),
    connectAndRecoverMs: { p50: percentile(times, 0.5), p99: percentile(times, 0.99) },
    replayed: sum(({ missed }) => missed),
    recoveries: { tail: fromTail, history: fromHistory },
    /** XRANGE and XREVRANGE that Redis ran: a read takes one for each 64 publications. */
    redisRangeCommands: commandsAfter - commandsBefore,
    cpuMs: {
      ...Object.fromEntries([...cpuAfter].map(([role, ms]) => [role, ms - (cpuBefore.get(role) ?? 0)])),
      generator: Math.round((ownCpu.user + ownCpu.system) / 1_000),
    },
    trouble: [...new Set(clients.flatMap(({ trouble }) => trouble ?? []))].slice(0, 5),
  };
  for (const client of clients) client.leave();
  process.stdout.write(flags["--json"] ? `${JSON.stringify(report, undefined, 2)}\n` : text(report));
  if (!report.pass) say(fleet.output());
  return report.pass;
}

interface Report {
  parameters: typeof parameters;
  pass: boolean;
  verdicts: readonly Verdict[];
  returnMs: number;
  connectAndRecoverMs: { p50: number; p99: number };
  replayed: number;
  recoveries: { tail: number; history: number };
  redisRangeCommands: number;
  cpuMs: Record<string, number>;
  trouble: readonly string[];
}

function text(report: Report): string {
  const { clients, publications, ratePerSecond } = report.parameters;
  const cpu = Object.entries(report.cpuMs).map(([role, ms]) => `${role} ${(ms / 1_000).toFixed(2)} s`);
  return [
    "",
    `mass return: ${clients} clients of one channel, all over ${publications} publications, ${ratePerSecond}/s meanwhile`,
    "",
    `  all were back after    ${(report.returnMs / 1_000).toFixed(2)} s, ${report.replayed} publications replayed`,
    `  connect to recovered   p50 ${report.connectAndRecoverMs.p50} ms, p99 ${report.connectAndRecoverMs.p99} ms`,
    `  answered               ${report.recoveries.tail} from the tail, ${report.recoveries.history} by a read of history`,
    `  on Redis               ${report.redisRangeCommands} range commands`,
    `  CPU until all are back ${cpu.join(", ")}`,
    "",
    ...report.verdicts.map(
      ({ title, pass, metric, value }) => `  ${pass ? "PASS" : "FAIL"}  ${title} (${metric}: ${value})`,
    ),
    ...report.trouble.map((trouble) => `        ${trouble}`),
    "",
    report.pass ? "PASS" : "FAIL",
    "",
  ].join("\n");
}

function percentile(sorted: readonly number[], share: number): number {
  return Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
}

async function post(deployment: OwnDeployment, method: string, path: string, body: unknown): Promise<unknown> {
  const answer = await fetch(deployment.privateApi + path, {
    method,
    headers: { authorization: `Bearer ${deployment.privateApiToken}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path} was answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

/** Everything that could be asked of a service is: a token that names its channels needs none of it. */
async function putRules(deployment: OwnDeployment): Promise<void> {
  const { port } = service.address() as AddressInfo;
  const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
  await post(deployment, "PUT", "/v1/rules", {
    namespaces: { board: { historySize: 1_000 } },
    services: { counting: { url: `http://127.0.0.1:${port}`, secret } },
    routes: [{ event: "*", service: "counting", path: "/", mode: "call" }],
    hooks: { subscribe: "counting" },
  });
}

/** @returns where the channel stands then. */
async function publish(deployment: OwnDeployment, count: number, data: string): Promise<Position> {
  const items = Array.from({ length: count }, () => ({ channel, event: "moved", data }));
  const answers = (await post(deployment, "POST", "/v1/publish/batch", items)) as Position[];
  const last = answers.at(-1);
  if (last?.epoch === undefined) throw new Error(`a publish failed: ${JSON.stringify(last)}`);
  return { epoch: last.epoch, offset: last.offset };
}

async function metricSum(deployment: OwnDeployment, series: string): Promise<number> {
  const pages = await Promise.all(deployment.adminUrls.map(async (url) => (await fetch(`${url}/metrics`)).text()));
  const values = pages.map((page) => page.split("\n").find((line) => line.startsWith(`tidegate_${series} `)));
  return values.reduce((sum, line) => sum + Number(line?.split(" ")[1] ?? 0), 0);
}

/** Asked without a client library: one command, one connection. */
async function rangeCommands({ redisUrl }: OwnDeployment): Promise<number> {
  const socket = connect(Number(new URL(redisUrl).port), "127.0.0.1");
  let answer = "";
  socket.on("data", (chunk: Buffer) => (answer += chunk.toString()));
  socket.end("INFO commandstats\r\n");
  await once(socket, "close");
  const calls = [...answer.matchAll(/cmdstat_x(?:rev)?range:calls=(\d+)/g)];
  return calls.reduce((sum, [, count]) => sum + Number(count), 0);
}

function cpuMs(processes: readonly ServerProcess[]): Map<string, number> {
  const byRole = new Map<string, number>();
  for (const { role, pid } of processes) {
    byRole.set(role, (byRole.get(role) ?? 0) + (processUsage(pid)?.cpuMs ?? 0));
  }
  return byRole;
}

/** Progress and trouble; stdout is for the report alone. */
function say(text: string): void {
  if (text !== "") process.stderr.write(`${text}\n`);
}

async function end(exitCode: number): Promise<void> {
  service.close();
  await fleet.stop();
  process.exit(exitCode);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void end(1));
try {
  await end((await main()) ? 0 : 1);
} catch (error) {
  say(fleet.output());
  say((error as Error).message);
  await end(1);
}
