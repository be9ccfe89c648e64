/**
 * The cost of calls: a client's event through gateway and private API to a service and back.
 *
 *   npm run loadtest -- calls [--json]
 *   CALLS_SECONDS (8) for each number of calls at once
 *
 * Reports calls per second, latency, and CPU time of each program per call. No verdict: compare within one run.
 */
import type { Socket } from "socket.io-client";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { spawnProcess } from "../../test/support/processes.ts";
import { processUsage } from "../checks/usage.ts";
import { loadToken } from "../clients/load-token.ts";
import { openStockSession } from "../clients/stock-session.ts";
import { Fleet, type ServerProcess } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { parameter } from "../rig/scenario.ts";

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
const service = spawnProcess(process.execPath, ["loadtest/rig/echo-service.ts"], {
  cwd: `${import.meta.dirname}/../..`,
});

async function main(): Promise<void> {
  const port = /\d+$/.exec(await service.printed("listening on"))?.[0];
  const deployment = await fleet.start({
    // Above what a client may send by default: the limit is not the subject.
    gatewaySettings: { GATEWAY_MESSAGES_PER_SECOND: "1000000" },
  });
  await putRules(deployment, {
    services: { echo: { url: `http://127.0.0.1:${port}`, secret: `whsec_${Buffer.alloc(32, 7).toString("base64")}` } },
    routes: [{ event: "echo", service: "echo", path: "/", mode: "call" }],
  });
  const token = await loadToken(deployment.jwtSecret, "load");
  const [url = ""] = deployment.gatewayUrls;
  const sessions = await Promise.all(Array.from({ length: connections }, () => openStockSession(url, { token })));
  const sockets = sessions.map(({ socket }) => socket);
  await call(sockets, 64, (made) => made < warmUpCalls);
  const results: Result[] = [];
  for (const n of atOnce) results.push(await measure(sockets, n, deployment.processes));
  for (const socket of sockets) socket.disconnect();
  process.stdout.write(flags["--json"] ? `${JSON.stringify(results, undefined, 2)}\n` : results.map(line).join(""));
}

async function measure(sockets: readonly Socket[], n: number, processes: readonly ServerProcess[]): Promise<Result> {
  const cpuBefore = new Map(processes.map(({ pid }) => [pid, cpuMsOf(pid)]));
  const startedAt = performance.now();
  const { latencies, failed } = await call(sockets, n, () => performance.now() - startedAt < seconds * 1_000);
  const elapsedMs = performance.now() - startedAt;
  const cpuMicrosPerCall: Record<string, number> = {};
  for (const { role, pid } of processes) {
    const micros = ((cpuMsOf(pid) - (cpuBefore.get(pid) ?? 0)) * 1_000) / latencies.length;
    cpuMicrosPerCall[role] = (cpuMicrosPerCall[role] ?? 0) + micros;
  }
  latencies.sort((a, b) => a - b);
  return {
    atOnce: n,
    callsPerSecond: Math.round((latencies.length / elapsedMs) * 1_000),
    p50Ms: latencies[Math.floor(latencies.length * 0.5)] ?? 0,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? 0,
    failed,
    cpuMicrosPerCall,
  };
}

/** Keeps `n` calls under way while `continues` holds for the number of calls made so far. */
async function call(
  sockets: readonly Socket[],
  n: number,
  continues: (made: number) => boolean,
): Promise<{ latencies: number[]; failed: number }> {
  const latencies: number[] = [];
  let failed = 0;
  const caller = async (socket: Socket | undefined): Promise<void> => {
    while (socket && continues(latencies.length)) {
      const startedAt = performance.now();
      const ack = (await socket.emitWithAck("echo", data)) as { ok: boolean };
      latencies.push(performance.now() - startedAt);
      if (!ack.ok) failed++;
    }
  };
  await Promise.all(Array.from({ length: n }, (_, i) => caller(sockets[i % sockets.length])));
  return { latencies, failed };
}

function cpuMsOf(pid: number): number {
  return processUsage(pid)?.cpuMs ?? 0;
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
  service.kill("SIGKILL");
  await fleet.stop();
}
