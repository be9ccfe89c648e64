/**
 * One node of three is killed (SIGKILL) with its third of the clients while publishing continues.
 *
 *   npm run loadtest -- crash [--json]
 *   CLIENTS (6000) STOCK (30 %) CHANNELS RATE (4) ADMISSIONS (150) QUIET (30 s) CROWD (4) BALANCERS (2)
 *
 * Needs HAProxy. Exit code 0: every client is back, at no more than the admission rate, and neither the bystanders nor the
 * services noticed.
 */
import { setTimeout as pause } from "node:timers/promises";
import { crowdFigures, deliveryVerdicts } from "../checks/crowd-verdicts.ts";
import { histogramText } from "../checks/histogram.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import type { Fleet } from "../rig/fleet.ts";
import { runScenario } from "../rig/scenario.ts";
import { Stage } from "../rig/stage.ts";
import { stageParameters, surgeParameters } from "../rig/surge-parameters.ts";

/** What two cores carry while the returning clients run on them, too. */
const parameters = surgeParameters({ clients: 6_000, stockShare: 0.3, admissions: 150 });
const gateways = 3;
/** Three times what all clients take at the admission rate, and a minute. */
const backWithinMs = (parameters.clients / parameters.admissions) * 1_000 * 3 + 60_000;
/** Of the bystanders' p99, compared with the quiet phase. */
const allowedFactor = 2;

async function run(fleet: Fleet): Promise<ScenarioReport> {
  return Stage.run(fleet, { gateways, ...stageParameters(parameters) }, async (stage) => {
    await stage.phase("quiet");
    await pause(parameters.quietSeconds * 1_000);
    const [victim] = fleet.gateways;
    const victims = stage.watch.samples.at(-1)?.nodes[0]?.sessions ?? 0;
    const hookCallsBefore = stage.hookCalls;
    await stage.phase("crash");
    const killedAt = Date.now();
    await victim?.kill();
    await stage.crowd.noticed(victims / 2);
    await stage.crowd.allBack(backWithinMs);
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
    const hookCalls = stage.hookCalls - hookCallsBefore;
    return {
      scenario: "crash",
      parameters: { ...parameters },
      figures: {
        "clients of the killed node": victims,
        "back after, s: half, 95 %, all": [0.5, 0.95, 1].map((n) => (away.percentile(n) / 1_000).toFixed(1)).join(", "),
        "all back as the processes count it, s": backSeconds.toFixed(1),
        "most welcomes in a second, as clients count them": tally.peakWelcomesPerSecond(killedAt),
        "bystanders: publish → receive": histogramText(bystanders),
        ...crowdFigures(tally, ["quiet", "crash", "after"], "crash"),
      },
      verdicts: [
        ...deliveryVerdicts(tally),
        {
          title: "every client that lost its connection is back",
          pass: away.count === lost,
          value: `${away.count} of ${lost}`,
        },
        stage.peakVerdict(killedAt),
        {
          title: `the bystanders' p99 is at most ${allowedFactor} × the quiet one`,
          pass: factor <= allowedFactor,
          value: `${bystandersMs.toFixed(1)} ms, quiet ${quietMs.toFixed(1)} ms: × ${factor.toFixed(2)}`,
        },
        { title: "no session of another node is dropped", pass: dropped === 0, value: dropped },
        { title: "reconnecting calls no service", pass: hookCalls === 0, value: hookCalls },
      ],
    };
  });
}

await runScenario(run);
