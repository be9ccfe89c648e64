/**
 * The same clients and publications on 1, 2, 4 and 8 nodes: the cost of small nodes, and of losing one.
 *
 *   npm run loadtest -- nodes [--json]
 *   NODES ("1,2,4,8") CLIENTS (2000) STOCK (0) CHANNELS RATE (10) ADMISSIONS (300) QUIET (30 s) CROWD (4) BALANCERS (2)
 *
 * Needs HAProxy. Each fleet is measured in a quiet phase; then one node is killed and restarted at once, as a supervisor
 * does. Exit code 0: no client lost anything, and the admission rate was kept.
 */
import { setTimeout as pause } from "node:timers/promises";
import { refuseArguments } from "../../shared/runtime/command-line.ts";
import { deliveryVerdicts } from "../checks/crowd-verdicts.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { processUsage, type Usage } from "../checks/usage.ts";
import type { Fleet, ServerProcess } from "../rig/fleet.ts";
import { runScenario, say } from "../rig/scenario.ts";
import { Stage } from "../rig/stage.ts";
import { stageParameters, surgeParameters } from "../rig/surge-parameters.ts";

const maxNodes = 32;
const parameters = surgeParameters({ clients: 2_000, stockShare: 0, rate: 10 });
const fleets = (process.env["NODES"] ?? "1,2,4,8").split(",").map(Number);
if (!fleets.every((nodes) => Number.isInteger(nodes) && nodes >= 1 && nodes <= maxNodes)) {
  refuseArguments(`NODES must be numbers from 1 to ${maxNodes}, as in 1,2,4, not "${process.env["NODES"]}"`);
}
const backWithinMs = (parameters.clients / parameters.admissions) * 1_000 * 3 + 60_000;
const columns = [
  ...["nodes", "RSS all, MiB", "RSS each, MiB", "CPU all, cores", "CPU each", "µs/delivery", "Redis µs/delivery"],
  ...["sessions lost", "half back, s", "all back, s", "peak/s"],
];

interface Row {
  readonly cells: readonly (string | number)[];
  readonly verdicts: readonly Verdict[];
}

/** Costs of all gateways together in the quiet phase. */
interface QuietCosts {
  readonly rssMiB: number;
  readonly cores: number;
  readonly microsPerDelivery: number;
  readonly redisMicrosPerDelivery: number;
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
    tables: [{ columns, rows: rows.map(({ cells }) => cells) }],
    verdicts: rows.flatMap(({ verdicts }) => verdicts),
  };
}

async function measure(fleet: Fleet, gateways: number): Promise<Row> {
  return Stage.run(fleet, { gateways, ...stageParameters(parameters) }, async (stage) => {
    const costs = await measureQuiet(stage, fleet);
    const { rssMiB, cores } = costs;
    say(`${gateways} nodes: ${rssMiB.toFixed(0)} MiB, ${cores.toFixed(2)} cores`);
    const [victim] = fleet.gateways;
    const victims = stage.watch.samples.at(-1)?.nodes[0]?.sessions ?? 0;
    await stage.phase("crash");
    const killedAt = Date.now();
    await victim?.kill();
    await Promise.all([victim?.start(), stage.crowd.noticed(victims / 2)]);
    await stage.crowd.allBack(backWithinMs);
    const tally = await stage.report();
    const away = tally.durations("away/crash/*");
    const named = (verdict: Verdict): Verdict => ({ ...verdict, title: `${gateways} nodes: ${verdict.title}` });
    return {
      cells: [
        gateways,
        ...[rssMiB, rssMiB / gateways].map(Math.round),
        ...[cores, cores / gateways].map((value) => Number(value.toFixed(3))),
        ...[costs.microsPerDelivery, costs.redisMicrosPerDelivery].map((value) => Number(value.toFixed(1))),
        tally.total("lost/crash/*/*"),
        ...[away.percentile(0.5), away.max].map((ms) => Number((ms / 1_000).toFixed(1))),
        Math.round(stage.watch.peakPerSecond(killedAt)),
      ],
      verdicts: [...deliveryVerdicts(tally), stage.peakVerdict(killedAt)].map(named),
    };
  });
}

/** Without the watch, whose samples cost the nodes CPU. */
async function measureQuiet(stage: Stage, fleet: Fleet): Promise<QuietCosts> {
  await stage.phase("quiet");
  await stage.watch.stop();
  const read = (role: ServerProcess["role"]): Usage[] =>
    fleet.processes.flatMap((server) => (server.role === role ? (processUsage(server.pid) ?? []) : []));
  const nodesBefore = await stage.watch.sample();
  const [before, redisBefore] = [read("gateway"), read("redis")];
  await pause(parameters.quietSeconds * 1_000);
  const [after, redisAfter] = [read("gateway"), read("redis")];
  const nodesAfter = await stage.watch.sample();
  stage.watch.start();
  const seconds = ((after[0]?.atMs ?? 0) - (before[0]?.atMs ?? 0)) / 1_000;
  const cpuMs = sum(after, "cpuMs") - sum(before, "cpuMs");
  const redisMs = sum(redisAfter, "cpuMs") - sum(redisBefore, "cpuMs");
  const deliveries = sum(nodesAfter, "deliveries") - sum(nodesBefore, "deliveries");
  return {
    rssMiB: sum(after, "rssBytes") / 1024 ** 2,
    cores: cpuMs / 1_000 / seconds,
    microsPerDelivery: (cpuMs * 1_000) / deliveries,
    redisMicrosPerDelivery: (redisMs * 1_000) / deliveries,
  };
}

function sum<Field extends string>(items: readonly Readonly<Record<Field, number>>[], field: Field): number {
  return items.reduce((total, item) => total + item[field], 0);
}

await runScenario(run);
