/**
 * Checks the keyed queues of a deployment: per key every item in order, none lost, repeats under the same id.
 * Stock Socket.IO clients emit numbered items; a service of this command gets them from the dispatchers and keeps the ledger.
 *
 *   npm run checker -- order --gateway URL[,URL] --api URL --api-token TOKEN --jwt-secret SECRET
 *     [--sources NAME[,NAME] --hook-secret SECRET] [--service-host 127.0.0.1] [--service-port 8091] [--events order.item] [--clients 10] [--rate 5] [--drops 60]
 *     [--seconds 30] [--settle-seconds 60] [--allow-loss] [--json]
 *
 *   npm run checker -- order-schedules …     runs random fault schedules against its own fleets (schedules.ts)
 *
 * The rules send the events to the command's service, with the key `/key`:
 *
 *   services: { order-checker: { url: "http://127.0.0.1:8091", secret: … } }
 *   routes: [{ event: "order.*", service: order-checker, path: "/", mode: enqueue, key: "/key" }]
 *
 * The token needs the scopes read and operate. settings.ts lists the environment variables. `--allow-loss`: acknowledged items
 * may be lost, and taken ones may come again behind later ones, as after a failover that loses writes.
 * Exit code 0: kept; 1: broken, or no verdict; 78: a bad setting. Break what you like meanwhile.
 */
import { randomBytes } from "node:crypto";
import { dropConnections, runCheck } from "../checker/check-command.ts";
import { loadToken } from "../clients/load-token.ts";
import { say } from "../rig/scenario.ts";
import { Receiver } from "./receiver.ts";
import { type OrderReport, orderReportText, totalsOf, violationsByKind } from "./report.ts";
import { OrderRun } from "./run.ts";
import { readOrderSettings } from "./settings.ts";

const settings = readOrderSettings();
const reconnectMs = 1_000;

async function check(ending: AbortController): Promise<OrderReport> {
  const { "--clients": clients, "--seconds": seconds } = settings;
  const runId = randomBytes(4).toString("hex");
  const receiver = new Receiver();
  await receiver.start(settings["--service-port"], settings["--service-host"]);
  const run = new OrderRun({
    gatewayUrls: settings["--gateway"].map((address) => address.replace(/^ws/, "http")),
    api: { url: settings["--api"].replace(/\/$/, ""), token: settings["--api-token"] },
    receiver,
    name: `checker-${runId}`,
    tokens: await Promise.all(
      Array.from({ length: clients }, async (_, n) => loadToken(settings["--jwt-secret"], `checker-${n + 1}`)),
    ),
    events: settings["--events"],
    hooks: {
      secret: settings["--hook-secret"],
      sources: settings["--sources"].map((name) => ({ name, event: `webhook of ${name}` })),
    },
    perSecond: settings["--rate"],
    reconnectMs,
    random: Math.random,
    lossWindows: settings["--allow-loss"] ? [{ from: 0, until: Infinity }] : [],
  });
  const startedAt = performance.now();
  const elapsedSeconds = (): number => (performance.now() - startedAt) / 1_000;
  const progress = setInterval(() => {
    const connected = run.emitters.filter((emitter) => emitter.connected).length;
    const emitted = run.ledgers.reduce((sum, ledger) => sum + ledger.emitted, 0);
    const missing = run.ledgers.reduce((sum, ledger) => sum + ledger.missing().length, 0);
    say(
      `${elapsedSeconds().toFixed(0)} s: ${connected} of ${run.emitters.length} connected, ${emitted} items, ${missing} under way`,
    );
  }, 2_000);
  try {
    run.start();
    const untilEnd = setTimeout(() => ending.abort(), seconds * 1_000);
    await Promise.all([dropConnections(run.emitters, settings["--drops"], ending.signal), run.run(ending.signal)]);
    clearTimeout(untilEnd);
    say("the last items");
    const keys = await run.finish(settings["--settle-seconds"] * 1_000);
    const sum = (count: (emitter: (typeof run.emitters)[number]) => number): number =>
      run.emitters.reduce((total, emitter) => total + count(emitter), 0);
    const refusals: Record<string, number> = {};
    for (const emitter of run.emitters) {
      for (const [code, count] of emitter.refusals) refusals[code] = (refusals[code] ?? 0) + count;
    }
    return {
      pass: keys.every(({ violations }) => violations.length === 0),
      seconds: elapsedSeconds(),
      clients,
      connects: sum(({ connects }) => connects),
      emitFailures: sum(({ failures }) => failures),
      refusals,
      unknownRequests: receiver.unknown,
      totals: totalsOf(keys),
      violations: violationsByKind(keys),
      keys,
    };
  } finally {
    clearInterval(progress);
    run.stop();
    await receiver.stop();
  }
}

await runCheck(check, { json: settings["--json"], text: orderReportText });
