/**
 * Clients make calls while each process of both programs is stopped (SIGTERM) and started again, one after the other.
 *
 *   npm run loadtest -- drain-calls [--json]
 *   CALLS (200/s) ANSWER_AFTER (250 ms) CLIENTS (600) CHANNELS RATE (4) ADMISSIONS (300) QUIET (30 s) CROWD (4) BALANCERS (2)
 *
 * Needs HAProxy. The clients use the SDK and call without `offline` and without `repeat`: each call is made once, now.
 * Exit code 0: no call failed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { crowdFigures, deliveryVerdicts } from "../checks/crowd-verdicts.ts";
import { drainReport } from "../checks/drain-report.ts";
import { histogramText } from "../checks/histogram.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import type { Fleet } from "../rig/fleet.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import type { Server } from "../rig/server.ts";
import { Stage } from "../rig/stage.ts";
import { stageParameters, surgeParameters } from "../rig/surge-parameters.ts";

const parameters = surgeParameters({ clients: 600, stockShare: 0 });
const callsPerSecond = parameter("CALLS", 200, 1, 10_000);
/** Keeps calls under way whenever a process stops. */
const answerAfterMs = parameter("ANSWER_AFTER", 250, 0, 5_000);
const [gateways, privateApis] = [3, 2];
const drainSeconds = 30;
const stopWithinMs = (drainSeconds + 20) * 1_000;
/** Time for balancers and gateways to find a restarted process. */
const betweenMs = 3_000;
const answeredWithinMs = 30_000;
const phases = ["quiet", "gateways", "private-apis"];

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const gatewaySettings = { GATEWAY_DRAIN_SECONDS: String(drainSeconds), LOG_LEVEL: "info" };
  const options = { gateways, privateApis, gatewaySettings, answerAfterMs, ...stageParameters(parameters) };
  return Stage.run(fleet, options, async (stage) => {
    stage.crowd.startCalls(callsPerSecond);
    await stage.phase("quiet");
    await pause(parameters.quietSeconds * 1_000);
    await stage.phase("gateways");
    await restartEach(fleet.gateways);
    await stage.phase("private-apis");
    await restartEach(fleet.privateApis);
    await stage.crowd.endCalls(answeredWithinMs);
    const tally = await stage.report();

    const figures: Record<string, string | number> = {};
    const verdicts: Verdict[] = deliveryVerdicts(tally);
    for (const phase of phases) {
      const counts = Object.entries(tally.counts(`called/${phase}/sdk/*`));
      figures[`calls, ${phase}`] = counts.map(([key, count]) => `${count} ${key.split("/").at(-1)}`).join(", ");
      figures[`event → ack, ${phase}`] = histogramText(tally.durations(`call/${phase}/sdk`));
      const failed = tally.total(`called/${phase}/sdk/*`) - tally.total(`called/${phase}/sdk/ok`);
      verdicts.push({ title: `no call fails: ${phase}`, pass: failed === 0, value: failed });
    }
    const { failed } = stage.publisher;
    verdicts.push({ title: "one of the private APIs accepts every publication", pass: failed === 0, value: failed });
    return {
      scenario: "drain-calls",
      parameters: { ...parameters, callsPerSecond, answerAfterMs, gateways, privateApis, drainSeconds },
      figures: { ...figures, ...crowdFigures(tally, phases, "gateways") },
      verdicts,
    };
  });
}

async function restartEach(servers: readonly Server[]): Promise<void> {
  for (const server of servers) {
    const { exitCode, tookMs } = await server.stop(stopWithinMs);
    const report = server.role === "gateway" ? `: ${drainReport(server.output())}` : "";
    say(`${server.name} exited after ${(tookMs / 1_000).toFixed(1)} s with exit code ${exitCode}${report}`);
    await server.start();
    await pause(betweenMs);
  }
}

await runScenario(run);
