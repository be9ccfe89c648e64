/**
 * Simulates a fleet of any size in a surge.
 *
 *   npm run simulation -- [--scenario fleet] [--clients 1000000] [--nodes 20] [--budget 2500] [--kinds stock,full-jitter]
 *                         [--seed 1] [--horizon 3600] [--out folder] [--json]
 *
 *   npm run simulation -- fit           measures the costs of a real node (fit.ts)
 *   npm run simulation -- compare       compares the simulation with a real fleet (compare.test.ts)
 *
 * Scenarios: node, zone, fleet, balancer, redis, deploy, ladder. Writes <out>/<scenario>.{svg,csv,json} and prints a table.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "typebox";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, list, oneOf, optional, text } from "../../shared/runtime/setting-kinds.ts";
import { type ClientKindName, clientKinds } from "./client-kinds.ts";
import { seriesCsv } from "./csv.ts";
import { beginSeconds, type Scenario, scenarios, type ScenarioName } from "./events.ts";
import { ladderEvents, ladderVariants } from "./ladder.ts";
import { type Figures, readFigures } from "./figures.ts";
import { drawRuns } from "./pictures.ts";
import { progressBar } from "./progress.ts";
import { legend, plainTable, summaryTable } from "./report.ts";
import { Simulation } from "./simulation.ts";
import type { Shape } from "./settings.ts";
import { summarise } from "./summary.ts";
import { type Variant, variantsOf } from "./variants.ts";

const clientsPerNode = 50_000;
const secondsForAll = 400;

const flags = readArguments({
  "--scenario": oneOf([...Object.keys(scenarios), "ladder"], "fleet"),
  "--clients": integer({ min: 100, max: 20_000_000, fallback: 1_000_000 }),
  "--nodes": optional(integer({ min: 2, max: 1_000 })),
  "--budget": optional(integer({ min: 1, max: 1_000_000 })),
  "--kinds": optional(list(Type.Enum(Object.keys(clientKinds)))),
  "--seed": integer({ min: 0, max: Number.MAX_SAFE_INTEGER, fallback: 1 }),
  "--horizon": integer({ min: 30, max: 86_400, fallback: 3_600 }),
  "--out": text({ fallback: "loadtest/results/simulation" }),
  "--json": toggle(),
});
const out = flags["--out"];

async function main(): Promise<void> {
  const { "--scenario": name, "--clients": clients, "--horizon": horizonSeconds } = flags;
  const shape = {
    clients,
    nodes: flags["--nodes"] ?? Math.max(2, Math.ceil(clients / clientsPerNode)),
    seed: flags["--seed"],
    budgetPerSecond: flags["--budget"] ?? Math.ceil(clients / secondsForAll),
  };
  const figures = readFigures();
  const kinds = flags["--kinds"] as readonly ClientKindName[] | undefined;
  await mkdir(out, { recursive: true });
  if (name !== "ladder") {
    const scenario = name as ScenarioName;
    return runAll({
      file: name,
      scenario,
      variants: variantsOf(scenario, shape, kinds, figures),
      shape,
      horizonSeconds,
      figures,
    });
  }
  for (const scenario of ladderEvents) {
    const variants = ladderVariants(scenario, shape, figures);
    await runAll({ file: `ladder-${scenario}`, scenario, variants, shape, horizonSeconds, figures });
  }
}

interface Plan {
  /** The file's name without its extension. */
  readonly file: string;
  readonly scenario: ScenarioName;
  readonly variants: readonly Variant[];
  readonly shape: Omit<Shape, "kind">;
  readonly horizonSeconds: number;
  readonly figures: Figures;
}

async function runAll({ file, scenario: name, variants, shape, horizonSeconds, figures }: Plan): Promise<void> {
  const scenario: Scenario = scenarios[name];
  const runs = variants.map((variant) => runVariant(variant, scenario, horizonSeconds, figures));
  const subtitle = `${short(shape.clients)} clients on ${shape.nodes} nodes, budget ${short(shape.budgetPerSecond)} admissions/s, seed ${shape.seed}`;
  const picture = drawRuns(runs, { title: capital(scenario.title), subtitle, budgetPerSecond: shape.budgetPerSecond });
  const write = async (ending: string, content: string): Promise<void> =>
    writeFile(join(out, `${file}.${ending}`), content);
  const report = {
    scenario: name,
    title: scenario.title,
    events: scenario.events(shape.nodes),
    figures,
    runs: runs.map(({ name, title, settings, summary }) => ({ name, title, settings, summary })),
  };
  const json = `${JSON.stringify(report, undefined, 2)}\n`;
  await Promise.all([write("svg", picture), write("csv", seriesCsv(runs)), write("json", json)]);
  const text = `${capital(scenario.title)}: ${subtitle}\n\n${plainTable(summaryTable(runs))}\n\n${legend}\n\nwritten to ${out}: ${file}.svg, .csv, .json\n\n`;
  process.stdout.write(flags["--json"] ? json : text);
}

function runVariant(variant: Variant, scenario: Scenario, horizonSeconds: number, figures: Figures) {
  const settings = { ...variant.settings, horizonSeconds };
  const progress = progressBar(variant.title, settings.clients);
  const simulation = new Simulation(settings, scenario.events(settings.fleet.nodes));
  const recording = simulation.run((second) => progress.show(second, simulation.crowd.connected));
  progress.end();
  const { name, title } = variant;
  return {
    name,
    title,
    settings,
    clients: settings.clients,
    recording,
    summary: summarise(recording, settings, beginSeconds, figures),
  };
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

function short(value: number): string {
  return value.toLocaleString("en-GB");
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
