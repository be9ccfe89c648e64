/**
 * The cost of calls: a client's event through gateway and private API to a service and back.
 *
 *   npm run loadtest -- calls [--json]
 *   CALLS_SECONDS (8) for each number of calls at once
 *
 * Reports calls per second, latency, and CPU time of each program per call. No verdict: compare within one run.
 */
import type { Socket } from "socket.io-client";
import { percentile } from "../checks/percentile.ts";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { emitAtOnce } from "../clients/emit-at-once.ts";
import { loadToken } from "../clients/load-token.ts";
import { openStockSession } from "../clients/stock-session.ts";
import { startEcho } from "../rig/echo.ts";
import { Fleet, type ServerProcess } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter } from "../rig/scenario.ts";
import { serviceSecret } from "../rig/service-secret.ts";

const flags = readArguments({ "--json": toggle() });
const seconds = parameter("CALLS_SECONDS", 8, 1, 600);
const connections = 8;
const atOnce = [1, 64];
const warmUpCalls = 2_000;
const data = { card: 17, column: "doing", text: "about a hundred bytes of what an application sends" };

interface Result {
  readonly atOnce: number;
  readonly callsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly failed: number;
  /** By program, over all its processes. */
  readonly cpuMicrosPerCall: Readonly<Record<string, number>>;
}

const fleet = new Fleet();
const echo = await startEcho();

async function main(): Promise<void> {
  const deployment = await fleet.start({
    // Above what a client may send by default: the limit is not the subject.
    gatewaySettings: { GATEWAY_MESSAGES_PER_SECOND: "1000000" },
  });
  await putRules(deployment, {
    services: { echo: { url: echo.url, secret: serviceSecret } },
    routes: [{ event: "echo", service: "echo", path: "/", mode: "call" }],
  });
  const token = await loadToken(deployment.jwtSecret, "load");
  const [url = ""] = deployment.gatewayUrls;
  const sessions = await Promise.all(Array.from({ length: connections }, () => openStockSession(url, { token })));
  const sockets = sessions.map(({ socket }) => socket);
  await call(sockets, 64, (acked) => acked < warmUpCalls);
  const results: Result[] = [];
  for (const n of atOnce) results.push(await measure(sockets, n, deployment.processes));
  for (const socket of sockets) socket.disconnect();
  process.stdout.write(flags["--json"] ? `${JSON.stringify(results, undefined, 2)}\n` : results.map(line).join(""));
}

async function measure(sockets: readonly Socket[], n: number, processes: readonly ServerProcess[]): Promise<Result> {
  const cpuBefore = cpuMsByRole(processes);
  const startedAt = performance.now();
  const { latencies, failed } = await call(sockets, n, () => performance.now() - startedAt < seconds * 1_000);
  const elapsedMs = performance.now() - startedAt;
  const cpuMicrosPerCall: Record<string, number> = {};
  for (const [role, cpuMs] of cpuMsByRole(processes)) {
    cpuMicrosPerCall[role] = ((cpuMs - (cpuBefore.get(role) ?? 0)) * 1_000) / latencies.length;
  }
  return {
    atOnce: n,
    callsPerSecond: Math.round((latencies.length / elapsedMs) * 1_000),
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    failed,
    cpuMicrosPerCall,
  };
}

async function call(
  sockets: readonly Socket[],
  atOnce: number,
  continues: (acked: number) => boolean,
): ReturnType<typeof emitAtOnce> {
  return emitAtOnce(sockets, { event: "echo", data: () => data, atOnce, continues });
}

function line(result: Result): string {
  const cpu = Object.entries(result.cpuMicrosPerCall)
    .map(([role, micros]) => `${role} ${micros.toFixed(1)} µs`)
    .join(", ");
  const latency = `p50 ${result.p50Ms.toFixed(2)} ms, p99 ${result.p99Ms.toFixed(2)} ms`;
  return `${result.atOnce} at once: ${result.callsPerSecond}/s, ${latency}, failed ${result.failed}; CPU per call: ${cpu}\n`;
}

try {
  await main();
} finally {
  echo.stop();
  await fleet.stop();
}
