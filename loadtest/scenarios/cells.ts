/**
 * One of two cells is frozen, then killed: what the work of the other cell notices; and how long slots are closed when they move.
 *
 *   npm run loadtest -- cells [--json]
 *   SECONDS (10 for each phase) RATE (20 a second of each kind and cell, at most 45)
 *
 * Cell b owns the slots 128 to 255, cell a the others. For each cell the same work: publishes to channels that a client follows, events
 * that are queued for a service, and webhooks. Phases: quiet; b frozen (SIGSTOP); quiet again; b killed (SIGKILL) and restarted; all
 * slots of b move to a under load. Latencies are measured for the work of cell a, with the clock of one process. The work of b continues
 * in all phases, and fails while b is away.
 *
 * Verdicts: in each phase with b away the p99 of a is at most twice that of the quieter quiet phase, or 10 ms above it, and nothing of a
 * fails; slots are closed for less than 3 s.
 */
import { setTimeout as pause } from "node:timers/promises";
import { slotCount } from "../../shared/redis/slots.ts";
import { Histogram, histogramText } from "../checks/histogram.ts";
import type { ScenarioReport, Verdict } from "../checks/scenario-report.ts";
import { CellWork, type Kind, kinds, workRules, WorkSink } from "../rig/cell-work.ts";
import type { Fleet, OwnDeployment } from "../rig/fleet.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const seconds = parameter("SECONDS", 10, 2, 600);
const rate = parameter("RATE", 20, 1, 45);

/** Calls of b that wait for it end within 5 s. */
const settleMs = 8_000;
const moveWithinMs = 120_000;
const firstOfB = slotCount / 2;
const slackMs = 10;
const closedBoundMs = 3_000;

interface Phase {
  readonly name: string;
  readonly isAway: boolean;
  readonly tookMs: ReadonlyMap<Kind, Histogram>;
  readonly failed: number;
  /** Of the work of b. */
  readonly failedOfB: number;
}

interface Measured {
  readonly phases: readonly Phase[];
  readonly moves: Pauses;
  /** While slots moved: what failed of both works, and latencies of the work of b. */
  readonly movedFailures: number;
  readonly movedMs: ReadonlyMap<Kind, Histogram>;
}

async function run(fleet: Fleet): Promise<ScenarioReport> {
  say("starting two cells, private-api and a gateway");
  const sink = new WorkSink();
  const deployment = await fleet.start({ gateways: 1, appendOnly: true, twoCells: true });
  await putRules(deployment, workRules(await sink.start()));
  await take(deployment, "b", `${firstOfB}-${slotCount - 1}`);
  const ofA = await CellWork.connect(deployment, (slot) => slot < firstOfB);
  const ofB = await CellWork.connect(deployment, (slot) => slot >= firstOfB);
  sink.onEvent = (doc, tookMs) => {
    for (const work of [ofA, ofB]) work.takeEvent(doc, tookMs);
  };
  for (const work of [ofA, ofB]) work.start(rate);
  try {
    return report(await measure(fleet, deployment, { ofA, ofB }));
  } finally {
    await Promise.all([ofA.stop(), ofB.stop()]);
    sink.stop();
  }
}

async function measure(
  fleet: Fleet,
  deployment: OwnDeployment,
  { ofA, ofB }: { ofA: CellWork; ofB: CellWork },
): Promise<Measured> {
  const phases: Phase[] = [];
  const phase = async (name: string, isAway: boolean): Promise<void> => {
    say(name);
    for (const work of [ofA, ofB]) work.takeFigures();
    await pause(seconds * 1_000);
    const [{ tookMs, failed }, away] = [ofA.takeFigures(), ofB.takeFigures()];
    phases.push({ name, isAway, tookMs, failed, failedOfB: away.failed + away.skipped });
  };
  const b = fleet.secondRedis;
  await pause(settleMs);
  await phase("quiet", false);
  b?.signal("SIGSTOP");
  await phase("b frozen", true);
  b?.signal("SIGCONT");
  await pause(settleMs);
  await phase("quiet again", false);
  await b?.kill();
  await phase("b killed", true);
  await b?.start();
  await pause(settleMs);
  say("moving the slots of b to a");
  const idle = await pausesOf(deployment);
  for (const work of [ofA, ofB]) work.takeFigures();
  await take(deployment, "a", `${firstOfB}-${slotCount - 1}`);
  const all = await pausesOf(deployment);
  const moves = { count: all.count - idle.count, sum: all.sum - idle.sum, mostMs: all.mostMs };
  const [moving, { failed, tookMs: movedMs }] = [ofA.takeFigures(), ofB.takeFigures()];
  return { phases, moves, movedFailures: moving.failed + failed, movedMs };
}

function report({ phases, moves, movedFailures, movedMs }: Measured): ScenarioReport {
  return {
    scenario: "cells",
    parameters: { seconds, rate },
    figures: {
      "failed or left out of the work of b": phases.map(({ name, failedOfB }) => `${name}: ${failedOfB}`).join(", "),
      "moves of 16 slots under load": moves.count,
      "… slots closed for, mean": `${((moves.sum / moves.count) * 1_000).toFixed(0)} ms`,
      "… slots closed for, at most (a bucket's bound)": `${moves.mostMs} ms`,
      ...Object.fromEntries(
        kinds.map((kind) => [`… ${kind}, of b`, histogramText(movedMs.get(kind) ?? new Histogram())]),
      ),
    },
    tables: [
      {
        columns: ["work of cell a, p50 / p99 ms", ...kinds],
        rows: phases.map(({ name, tookMs }) => [name, ...kinds.map((kind) => textOf(tookMs.get(kind)))]),
      },
    ],
    verdicts: [
      ...kinds.map((kind) => unchanged(kind, phases)),
      failedOf(phases),
      { title: "nothing fails while slots move", pass: movedFailures === 0, value: movedFailures },
      {
        title: `slots are closed for less than ${closedBoundMs} ms`,
        pass: moves.mostMs < closedBoundMs,
        value: moves.mostMs,
      },
    ],
  };
}

function unchanged(kind: Kind, phases: readonly Phase[]): Verdict {
  const p99 = ({ tookMs }: Phase): number => tookMs.get(kind)?.percentile(0.99) ?? Number.NaN;
  const quiet = Math.min(...phases.filter(({ isAway }) => !isAway).map(p99));
  const away = phases.filter(({ isAway }) => isAway).map(p99);
  return {
    title: `${kind}: with b away the p99 of a is at most twice the quiet one, or ${slackMs} ms above it`,
    pass: away.every((ms) => ms <= Math.max(2 * quiet, quiet + slackMs)),
    value: `${away.map((ms) => ms.toFixed(1)).join(", ")} ms; quiet ${quiet.toFixed(1)} ms`,
  };
}

function failedOf(phases: readonly Phase[]): Verdict {
  const failed = phases.reduce((sum, phase) => sum + phase.failed, 0);
  return { title: "nothing of the work of a fails", pass: failed === 0, value: failed };
}

function textOf(histogram: Histogram | undefined): string {
  if (!histogram) return "nothing";
  return `${histogram.percentile(0.5).toFixed(1)} / ${histogram.percentile(0.99).toFixed(1)} (${histogram.count})`;
}

/** Resolves once the slots have moved. */
async function take(deployment: OwnDeployment, cell: string, slots: string): Promise<void> {
  await callPrivateApi(deployment, "POST", `/v1/cells/${cell}/take`, { slots });
  const deadline = performance.now() + moveWithinMs;
  for (;;) {
    const { privateApi, privateApiToken } = deployment;
    const answer = await fetch(`${privateApi}/v1/cells`, { headers: { authorization: `Bearer ${privateApiToken}` } });
    const { moves } = (await answer.json()) as { moves: unknown[] };
    if (moves.length === 0) return;
    if (performance.now() > deadline) throw new Error("the slots have not moved in time");
    await pause(100);
  }
}

/** Pauses of moves, by the private API's histogram. */
interface Pauses {
  readonly count: number;
  /** In seconds. */
  readonly sum: number;
  /** The bound of the highest bucket that is used. */
  readonly mostMs: number;
}

async function pausesOf({ privateApi }: OwnDeployment): Promise<Pauses> {
  const text = await (await fetch(`${privateApi}/metrics`)).text();
  const value = (name: string): number =>
    Number(new RegExp(`^tidegate_cell_pause_seconds_${name} (\\S+)`, "m").exec(text)?.[1] ?? 0);
  const count = value("count");
  const buckets = [...text.matchAll(/^tidegate_cell_pause_seconds_bucket\{le="([\d.]+)"[^}]*\} (\d+)/gm)];
  const last = buckets.find(([, , below]) => Number(below) === count);
  return { count, sum: value("sum"), mostMs: last ? Number(last[1]) * 1_000 : Infinity };
}

await runScenario(run);
