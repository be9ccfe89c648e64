/**
 * Clients on two nodes follow a few channels while a publisher publishes: deliveries, latency, CPU and memory.
 *
 *   npm run loadtest -- fan-out [--json]
 *   npm run loadtest -- fan-out --url ws://a,ws://b --api http://c [--json]
 *     against a running deployment: PRIVATE_API_TOKEN (scope publish) and AUTH_JWT_SECRET in the environment
 *
 * Needs k6. Parameters by environment: k6/parameters.js.
 * Exit code 0: every verdict passed; 1: a verdict failed or the scenario could not run.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readArguments, refuseArguments, toggle } from "../../shared/runtime/command-line.ts";
import { optional, text, token, url, urls } from "../../shared/runtime/setting-kinds.ts";
import type { Spawned } from "../../test/support/processes.ts";
import { type Deployment, Fleet } from "../rig/fleet.ts";
import { findK6, startK6 } from "../rig/k6.ts";
import { say } from "../rig/scenario.ts";
import { createReport, type FanOutResult, type Report, reportText } from "../checks/fan-out-report.ts";
import { machineUsage, processUsage, type Usage, UsageRecorder } from "../checks/usage.ts";

/** Kills a k6 that hangs; the scenario's own limits are shorter. */
const k6DeadlineMs = 25 * 60_000;

const flags = readArguments({
  "--json": toggle(),
  "--url": optional(urls({ protocols: ["ws:", "wss:"] })),
  "--api": optional(url({ protocols: ["http:", "https:"], allows: ["path"] })),
  PRIVATE_API_TOKEN: optional(token()),
  AUTH_JWT_SECRET: optional(text({ secret: true })),
});
const existing = existingDeployment();

const fleet = new Fleet();
let k6: Spawned | undefined;

async function main(): Promise<boolean> {
  const k6Path = findK6();
  if (!existing) say("starting redis, private-api and two gateways");
  const deployment = existing ?? (await fleet.start());
  const report = await measure(k6Path, deployment);
  process.stdout.write(flags["--json"] ? `${JSON.stringify(report, undefined, 2)}\n` : `\n${reportText(report)}`);
  if (!report.pass) say(fleet.output());
  return report.pass;
}

/** @returns undefined where the flags name no deployment. */
function existingDeployment(): Deployment | undefined {
  const { "--url": gatewayUrls, "--api": privateApi } = flags;
  const { PRIVATE_API_TOKEN: privateApiToken, AUTH_JWT_SECRET: jwtSecret } = flags;
  if (!gatewayUrls && !privateApi) return undefined;
  if (!gatewayUrls || !privateApi || !privateApiToken || !jwtSecret) {
    return refuseArguments("a deployment needs --url, --api and the variables PRIVATE_API_TOKEN and AUTH_JWT_SECRET");
  }
  return {
    gatewayUrls,
    privateApi,
    privateApiToken,
    jwtSecret,
    processes: [],
  };
}

async function measure(k6Path: string, deployment: Deployment): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-load-"));
  const resultFile = join(folder, "result.json");
  const startedAt = Date.now();
  const recorders = new Map<string, UsageRecorder[]>();
  const follow = (role: string, read: () => Usage | undefined): void => {
    const recorder = new UsageRecorder(read);
    recorder.start();
    recorders.set(role, [...(recorders.get(role) ?? []), recorder]);
  };
  for (const { role, pid } of deployment.processes) follow(role, () => processUsage(pid));
  k6 = startK6(k6Path, "fan-out.js", {
    GATEWAY_URLS: deployment.gatewayUrls.join(","),
    PRIVATE_API_URL: deployment.privateApi,
    PRIVATE_API_TOKEN: deployment.privateApiToken,
    AUTH_JWT_SECRET: deployment.jwtSecret,
    RESULT_FILE: resultFile,
  });
  const { child } = k6;
  const { pid } = child;
  if (pid !== undefined) follow("k6", () => processUsage(pid));
  follow("whole machine", machineUsage);
  const deadline = setTimeout(() => child.kill("SIGKILL"), k6DeadlineMs);
  const progress = setInterval(() => say(`${Math.round((Date.now() - startedAt) / 1_000)} s`), 5_000);
  say("k6 is running");
  try {
    const exitCode = await k6.exited;
    const result = await readFile(resultFile, "utf8").catch(() => undefined);
    if (exitCode !== 0 || result === undefined) say(firstLines(k6.output()));
    if (result === undefined) throw new Error(`k6 exited with code ${exitCode} and without a result`);
    for (const recorder of [...recorders.values()].flat()) recorder.stop();
    return createReport(JSON.parse(result) as FanOutResult, recorders, { startedAt, died: fleet.died });
  } finally {
    clearTimeout(deadline);
    clearInterval(progress);
    for (const recorder of [...recorders.values()].flat()) recorder.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function firstLines(output: string): string {
  const lines = output.split("\n");
  return [...lines.slice(0, 20), ...(lines.length > 20 ? [`… ${lines.length - 20} more lines`] : [])].join("\n");
}

async function end(exitCode: number): Promise<void> {
  k6?.kill("SIGKILL");
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
