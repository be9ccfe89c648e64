/**
 * The same clients and the same publishing on 1, 2, 4 and 8 nodes: what small nodes cost, and what losing one costs.
 *
 *   npm run loadtest -- nodes [--json]      NODES (default "1,2,4,8"), and surge-parameters.ts
 *
 * On each fleet the costs are measured while nothing happens; then one node is killed, and started again at once, as whoever
 * supervises it does. Exit code 0: nobody lost anything, and the rate that is let in was kept.
 */
import { setTimeout as pause } from "node:timers/promises";
import { refuseArguments } from "../../shared/runtime/command-line.ts";
import { deliveryVerdicts } from "../checks/crowd-verdicts.ts";
import type { Fleet } from "../rig/fleet.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { runScenario, say } from "../rig/scenario.ts";
import { Stage } from "../rig/stage.ts";
import { stageParameters, surgeParameters } from "../rig/surge-parameters.ts";
import { processUsage, type Usage } from "../checks/usage.ts";

/** Of one fleet, on this machine. */
const maxNodes = 32;
const parameters = surgeParameters({ clients: 2_000, stockShare: 0, rate: 10 });
const fleets = (process.env["NODES"] ?? "1,2,4,8").split(",").map(Number);
if (!fleets.every((nodes) => Number.isInteger(nodes) && nodes >= 1 && nodes <= maxNodes)) {
  refuseArguments(`NODES must be numbers from 1 to ${maxNodes}, as in 1,2,4, not "${process.env["NODES"]}"`);
}
const backWithinMs = (parameters.clients / parameters.admissions) * 1_000 * 3 + 60_000;

interface Row {
  readonly cells: readonly (string | number)[];
  readonly verdicts: readonly Verdict[];
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  const rows: Row[] = [];
  for (const gateways of fleets) {
    if (rows.length > 0) await fleet.stop();
    rows.push(await measure(fleet, gateways));
  }
  return {
    scenario: "nodes",
    parameters: { ...parameters },
    figures: {},
    tables: [
      {
        columns: [
          ...[
            "nodes",
            "RSS all, MiB",
            "RSS each, MiB",
            "CPU all, cores",
            "CPU each",
            "µs/delivery",
            "Redis µs/delivery",
          ],
          ...["sessions lost", "half back, s", "all back, s", "peak/s"],
        ],
        rows: rows.map(({ cells }) => cells),
      },
    ],
    verdicts: rows.flatMap(({ verdicts }) => verdicts),
  };
}

async function measure(fleet: Fleet, gateways: number): Promise<Row> {
  return Stage.run(fleet, { gateways, ...stageParameters(parameters) }, async (stage) => {
    const of = (role: string): Usage[] =>
      fleet.processes.flatMap((server) => (server.role === role ? (processUsage(server.pid) ?? []) : []));
    await stage.phase("quiet");
    await stage.watch.stop();
    const readBefore = await stage.watch.look();
    const [before, redisBefore] = [of("gateway"), of("redis")];
    await pause(parameters.quietSeconds * 1_000);
    const [after, redisAfter] = [of("gateway"), of("redis")];
    const readAfter = await stage.watch.look();
    stage.watch.start();
    const seconds = ((after[0]?.atMs ?? 0) - (before[0]?.atMs ?? 0)) / 1_000;
    const cpuMs = sum(after, "cpuMs") - sum(before, "cpuMs");
    const redisMs = sum(redisAfter, "cpuMs") - sum(redisBefore, "cpuMs");
    const deliveries = sum(readAfter, "deliveries") - sum(readBefore, "deliveries");
    const rssMiB = sum(after, "rssBytes") / 1024 ** 2;
    const cores = cpuMs / 1_000 / seconds;

    const [victim] = fleet.gateways;
    const victims = readAfter[0]?.sessions ?? 0;
    await stage.phase("crash");
    const killedAt = Date.now();
    await victim?.kill();
    await Promise.all([victim?.start(), stage.crowd.noticed(victims / 2)]);
    await stage.crowd.everybodyBack(backWithinMs);
    const tally = await stage.report();
    const away = tally.durations("away/crash/*");
    const peak = stage.watch.peakPerSecond(killedAt);
    say(`${gateways} nodes: ${rssMiB.toFixed(0)} MiB, ${cores.toFixed(2)} cores, ${deliveries} deliveries`);
    const on = (verdict: Verdict): Verdict => ({ ...verdict, title: `${gateways} nodes: ${verdict.title}` });
    return {
      cells: [
        gateways,
        ...[rssMiB, rssMiB / gateways].map(Math.round),
        ...[cores, cores / gateways].map((value) => Number(value.toFixed(3))),
        ...[cpuMs, redisMs].map((ms) => Number(((ms * 1_000) / deliveries).toFixed(1))),
        tally.total("lost/crash/*/*"),
        ...[away.percentile(0.5), away.max].map((ms) => Number((ms / 1_000).toFixed(1))),
        Math.round(peak),
      ],
      verdicts: [...deliveryVerdicts(tally), stage.peakVerdict(killedAt)].map(on),
    };
  });
}

function sum<Field extends string>(items: readonly Readonly<Record<Field, number>>[], field: Field): number {
  return items.reduce((total, item) => total + item[field], 0);
}

await runScenario(run);
