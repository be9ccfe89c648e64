/**
 * Checks a deployment against its promise: per channel, offset order, no gap, no double, one signal where a gap is inevitable.
 * Stock Socket.IO clients follow channels and reconnect again and again while publishers publish numbered items.
 *
 *   npm run checker -- --gateway URL[,URL] --api URL --api-token TOKEN --jwt-secret SECRET
 *     [--clients 10] [--channels 3] [--publishers 2] [--rate 10] [--drops 60] [--seconds 30] [--namespace checker]
 *     [--allow-loss] [--json]
 *
 *   npm run checker -- schedules …     runs random fault schedules against its own fleets (schedules.ts)
 *
 * The token needs the scopes publish and read. settings.ts lists the environment variables. `--allow-loss`: acknowledged
 * publications may be lost, as after a failover that loses writes; each affected client must still get one signal.
 * Exit code 0: kept; 1: broken, or no verdict; 78: a bad setting. Break what you like meanwhile.
 */
import { randomBytes } from "node:crypto";
import { loadToken } from "../clients/load-token.ts";
import { say } from "../rig/scenario.ts";
import { dropConnections, restUntil, runCheck } from "./check-command.ts";
import { readHistorySize } from "./private-api.ts";
import type { Publisher } from "./publisher.ts";
import { type CheckerReport, countByKind, reportText } from "./report.ts";
import { CheckerRun } from "./run.ts";
import { readCheckerSettings } from "./settings.ts";

const settings = readCheckerSettings();
const reconnectMs = 1_000;
const followWithinMs = 30_000;
const publishWithinMs = 30_000;
/** Time for the last publications to reach every client. */
const settleMs = 60_000;

async function check(ending: AbortController): Promise<CheckerReport> {
  const { "--namespace": namespace, "--seconds": seconds, "--clients": clients } = settings;
  const api = { url: settings["--api"].replace(/\/$/, ""), token: settings["--api-token"] };
  const historySize = await readHistorySize(api, namespace);
  const runId = randomBytes(4).toString("hex");
  const run = new CheckerRun({
    gatewayUrls: settings["--gateway"].map((address) => address.replace(/^ws/, "http")),
    api,
    token: await loadToken(settings["--jwt-secret"], "checker", { channels: [`${namespace}:*`] }),
    channels: Array.from({ length: settings["--channels"] }, (_, n) => `${namespace}:${runId}-${n + 1}`),
    clients,
    publishers: settings["--publishers"],
    reconnectMs,
    random: Math.random,
  });
  const publishers = [...run.publishers.values()].flat();
  const startedAt = performance.now();
  const elapsedSeconds = (): number => (performance.now() - startedAt) / 1_000;
  const progress = setInterval(() => {
    const connected = run.clients.filter((client) => client.connected).length;
    const followers = run.followers();
    const total = (count: (of: (typeof followers)[number]) => number): number =>
      followers.reduce((sum, follower) => sum + count(follower), 0);
    say(
      `${elapsedSeconds().toFixed(0)} s: ${connected} of ${clients} connected, ${total(({ deliveries }) => deliveries)} ` +
        `deliveries, ${total(({ signals }) => signals.length)} signals, ${total(({ findingCount }) => findingCount)} findings`,
    );
  }, 2_000);
  try {
    run.start();
    if (!(await run.allFollow(followWithinMs))) throw new Error("not every client could subscribe");
    const untilEnd = setTimeout(() => ending.abort(), seconds * 1_000);
    await Promise.all([
      dropConnections(run.clients, settings["--drops"], ending.signal),
      ...publishers.map(async (publisher) => publishOn(publisher, ending.signal)),
    ]);
    clearTimeout(untilEnd);
    say("the last publications");
    const lossDeclared = settings["--allow-loss"];
    const channels = await run.finish({ withinMs: settleMs, historySize: () => historySize, lossDeclared });
    const violations = countByKind(channels.flatMap((verdict) => verdict.violations));
    return {
      pass: Object.values(violations).every((count) => count === 0),
      seconds: elapsedSeconds(),
      clients,
      connects: run.clients.reduce((sum, client) => sum + client.connects, 0),
      publishFailures: publishers.reduce((sum, { failures }) => sum + failures, 0),
      violations,
      channels,
    };
  } finally {
    clearInterval(progress);
    run.stop();
  }
}

async function publishOn(publisher: Publisher, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await publisher.publish(publishWithinMs);
    await restUntil(signal, (2_000 / settings["--rate"]) * Math.random());
  }
}

await runCheck(check, { json: settings["--json"], text: reportText });
