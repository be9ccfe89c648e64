/**
 * A fleet of three restarts node by node while every client is connected and publishing continues.
 *
 *   npm run loadtest -- rolling-restart [--json]
 *   DRAIN (120 s) CLIENTS (6000) STOCK (10 %) CHANNELS RATE (4) ADMISSIONS (300) QUIET (30 s) CROWD (4) BALANCERS (2)
 *
 * Needs HAProxy. Each node gets SIGTERM, drains, exits, and starts again on its ports. Exit code 0: every verdict passed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { crowdFigures, deliveryVerdicts } from "../checks/crowd-verdicts.ts";
import { drainReport } from "../checks/drain-report.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import type { Fleet } from "../rig/fleet.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import { Stage } from "../rig/stage.ts";
import { stageParameters, surgeParameters } from "../rig/surge-parameters.ts";

const parameters = surgeParameters({ clients: 6_000 });
const gateways = 3;
const drainSeconds = parameter("DRAIN", 120, 5, 3_600);
/** A node that takes longer is killed. */
const stopWithinMs = (drainSeconds + 20) * 1_000;
/** Time for the balancers to find a restarted node. */
const betweenNodesMs = 3_000;
const backWithinMs = 60_000;
/** Of the longest wait, compared with the quiet p99.9. */
const allowedFactor = 3;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const gatewaySettings = { GATEWAY_DRAIN_SECONDS: String(drainSeconds), LOG_LEVEL: "info" };
  return Stage.run(fleet, { gateways, gatewaySettings, ...stageParameters(parameters) }, async (stage) => {
    await stage.phase("quiet");
    await pause(parameters.quietSeconds * 1_000);
    await stage.phase("restart");
    const restartAt = Date.now();
    const stops = await restartEach(fleet);
    await stage.crowd.allBack(backWithinMs);
    const tookSeconds = (Date.now() - restartAt) / 1_000;
    await stage.phase("after");
    await pause(parameters.quietSeconds * 1_000);
    const tally = await stage.report();

    const [quiet, restart] = ["quiet", "restart"].map((phase) => tally.durations(`latency/${phase}/sdk/*`));
    const quietMs = quiet?.percentile(0.999) ?? Number.NaN;
    const longestMs = restart?.max ?? Number.NaN;
    const factor = longestMs / quietMs;
    return {
      scenario: "rolling-restart",
      parameters: { ...parameters, drainSeconds },
      figures: {
        "the restart took, s": tookSeconds.toFixed(1),
        "the nodes exited": stops.join("; "),
        "their drains": fleet.gateways.map((node) => drainReport(node.output())).join("; "),
        "most welcomes in a second, as clients count them": tally.peakWelcomesPerSecond(restartAt),
        ...crowdFigures(tally, ["quiet", "restart", "after"], "restart"),
      },
      verdicts: [
        ...deliveryVerdicts(tally),
        {
          title: `no SDK client waits longer than ${allowedFactor} × the quiet p99.9`,
          pass: factor <= allowedFactor,
          value: `${longestMs.toFixed(0)} ms, quiet ${quietMs.toFixed(0)} ms: × ${factor.toFixed(2)}`,
        },
        stage.peakVerdict(restartAt),
      ],
    };
  });
}

/** @returns how each node exited. */
async function restartEach(fleet: Fleet): Promise<string[]> {
  const stops: string[] = [];
  for (const node of fleet.gateways) {
    const { exitCode, tookMs } = await node.stop(stopWithinMs);
    stops.push(`${node.name} after ${(tookMs / 1_000).toFixed(1)} s with exit code ${exitCode}`);
    say(`stopped ${stops.at(-1)}: ${drainReport(node.output())}`);
    await node.start();
    await pause(betweenNodesMs);
  }
  return stops;
}

await runScenario(run);
