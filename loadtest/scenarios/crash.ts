/**
 * One node of three is killed (SIGKILL) with its third of the clients, while publications go on.
 *
 *   npm run loadtest -- crash [--json]      parameters by environment: surge-parameters.ts
 *
 * Exit code 0: everybody came back, at the rate that is let in, and neither bystanders nor services felt it.
 */
import { setTimeout as pause } from "node:timers/promises";
import { crowdFigures, deliveryVerdicts } from "../checks/crowd-verdicts.ts";
import type { Fleet } from "../rig/fleet.ts";
import { histogramText } from "../checks/histogram.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { runScenario } from "../rig/scenario.ts";
import { Stage } from "../rig/stage.ts";
import { stageParameters, surgeParameters } from "../rig/surge-parameters.ts";

/** What two cores bear beside everything else: those who come back are on them, too. */
const parameters = surgeParameters({ clients: 6_000, stockShare: 0.3, admissions: 150 });
const gateways = 3;
/** Of those that stay, for clients to come back at the rate that is let in, several times over. */
const backWithinMs = (parameters.clients / parameters.admissions) * 1_000 * 3 + 60_000;
/** Of the bystanders' p99, against the quiet one. */
const allowedFactor = 2;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  return Stage.run(fleet, { gateways, ...stageParameters(parameters) }, async (stage) => {
    await stage.phase("quiet");
    await pause(parameters.quietSeconds * 1_000);
    const [victim] = fleet.gateways;
    const victims = stage.watch.looks.at(-1)?.nodes[0]?.sessions ?? 0;
    const hookCallsBefore = stage.hookCalls;
    await stage.phase("crash");
    const killedAt = Date.now();
    await victim?.kill();
    await stage.crowd.noticed(victims / 2);
    await stage.crowd.everybodyBack(backWithinMs);
    const backSeconds = (Date.now() - killedAt) / 1_000;
    await stage.phase("after");
    await pause(parameters.quietSeconds * 1_000);
    const tally = await stage.report();

    const away = tally.durations("away/crash/*");
    const quietMs = tally.durations("latency/quiet/*/*").percentile(0.99);
    const bystanders = tally.durations("latency/crash/*/calm");
    const bystandersMs = bystanders.percentile(0.99);
    const factor = bystandersMs / quietMs;
    const lost = tally.total("lost/crash/*/*");
    const dropped = lost - tally.total(`lost/crash/*/${victim?.name}`) + tally.total("lost/after/*/*");
    const asked = stage.hookCalls - hookCallsBefore;
    return {
      scenario: "crash",
      parameters: { ...parameters },
      figures: {
        "clients of the killed node": victims,
        "back after, s: half, 95 %, all": [0.5, 0.95, 1].map((n) => (away.percentile(n) / 1_000).toFixed(1)).join(", "),
        "all back by the processes' own count, s": backSeconds.toFixed(1),
        "most welcomes in a second, as clients saw them": tally.peakWelcomesPerSecond(killedAt),
        "bystanders: publish → receive": histogramText(bystanders),
        ...crowdFigures(tally, ["quiet", "crash", "after"], "crash"),
      },
      verdicts: [
        ...deliveryVerdicts(tally),
        { title: "everybody who was thrown out is back", pass: away.count === lost, value: `${away.count} of ${lost}` },
        stage.peakVerdict(killedAt),
        {
          title: `the bystanders' p99 is at most ${allowedFactor} × the quiet one`,
          pass: factor <= allowedFactor,
          value: `${bystandersMs.toFixed(1)} ms, quiet ${quietMs.toFixed(1)} ms: × ${factor.toFixed(2)}`,
        },
        { title: "no session of another node is dropped", pass: dropped === 0, value: dropped },
        { title: "coming back asks no service", pass: asked === 0, value: asked },
      ],
    };
  });
}

await runScenario(run);
