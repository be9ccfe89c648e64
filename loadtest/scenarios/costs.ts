/**
 * CPU of gateway and private API per connect, delivery and call; with BEFORE_FOLDER beside another checkout, in turn.
 *
 *   npm run loadtest -- costs [--json]
 *   BEFORE_FOLDER=../before npm run loadtest -- costs      a checkout of another commit, with its packages installed
 *   AFTER_FOLDER (this checkout) is what it is compared with
 *   FLEETS (3, one after the other) ROUNDS (4 of each) SECONDS (240; begins no round later) SUBSCRIBERS (500)
 *   CONNECTS (500) PUBLICATIONS (200) CALLS (8000) of one measurement
 *
 * The same clients work against both checkouts, one measurement each in turn, so that other work on the machine disturbs both.
 * The table shows the median of all measurements, the lowest and the highest, and the median and quartiles of the ratios of
 * measurements that follow each other. No CPU figure fails a run.
 */
import { percentile } from "../checks/percentile.ts";
import type { ScenarioReport, Table } from "../checks/scenario-report.ts";
import { checkoutIn } from "../rig/checkout.ts";
import { type Cost, CostBench } from "../rig/cost-bench.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";
import type { Role } from "../rig/server.ts";

const parameters = {
  fleets: parameter("FLEETS", 3, 1, 20),
  rounds: parameter("ROUNDS", 4, 1, 100),
  seconds: parameter("SECONDS", 240, 10, 3_600),
  subscribers: parameter("SUBSCRIBERS", 500, 10, 5_000),
  connects: parameter("CONNECTS", 500, 10, 5_000),
  publications: parameter("PUBLICATIONS", 200, 20, 10_000),
  calls: parameter("CALLS", 8_000, 100, 100_000),
};

interface Work {
  readonly title: string;
  readonly roles: readonly Role[];
  readonly measure: (bench: CostBench) => Promise<Cost>;
}

const works: readonly Work[] = [
  {
    title: "connect and subscribe",
    roles: ["gateway"],
    measure: async (bench) => bench.connects(parameters.connects),
  },
  ...[1, 5, 20].map((atOnce): Work => ({
    title: `delivery, ${atOnce} at once`,
    roles: ["gateway"],
    measure: async (bench) => bench.deliveries(Math.ceil(parameters.publications / atOnce), atOnce),
  })),
  {
    title: "call, 64 at once",
    roles: ["gateway", "private-api"],
    measure: async (bench) => bench.calls(parameters.calls),
  },
];

/** A checkout under measurement. */
interface Side {
  readonly name: string;
  /** Undefined: this one. */
  readonly checkout: string | undefined;
  /** In the order of the measurements. */
  readonly costs: Map<Work, Cost[]>;
}

async function run(): Promise<ScenarioReport> {
  const before = checkoutIn("BEFORE_FOLDER");
  const side = (name: string, checkout: string | undefined): Side => ({ name, checkout, costs: new Map() });
  const now = side("now", checkoutIn("AFTER_FOLDER"));
  const sides = before === undefined ? [now] : [side("before", before), now];
  const until = performance.now() + parameters.seconds * 1_000;
  for (let fleet = 1; fleet <= parameters.fleets && performance.now() < until; fleet++) {
    say(`fleet ${fleet} of ${parameters.fleets}`);
    await measureFleets(sides, until);
  }
  const measured = Math.min(...works.map((work) => now.costs.get(work)?.length ?? 0));
  const verdict = { title: "each work was measured at least three times", pass: measured >= 3, value: measured };
  return { scenario: "costs", parameters, figures: {}, tables: [tableOf(sides)], verdicts: [verdict] };
}

/** Starts a fleet of each side and measures all works in turn. @param until begins no round later */
async function measureFleets(sides: readonly Side[], until: number): Promise<void> {
  const benches = sides.map((side) => ({ side, bench: new CostBench() }));
  try {
    for (const { side, bench } of benches) {
      await bench.start(side.checkout, parameters.subscribers);
      // The first measurement of each work compiles code.
      for (const work of works) await work.measure(bench);
    }
    for (let round = 1; round <= parameters.rounds && performance.now() < until; round++) {
      for (const work of works) {
        for (const { side, bench } of round % 2 === 1 ? benches : benches.toReversed()) {
          side.costs.set(work, [...(side.costs.get(work) ?? []), await work.measure(bench)]);
        }
      }
    }
  } catch (error) {
    for (const { bench } of benches) say(bench.output());
    throw error;
  } finally {
    for (const { bench } of benches) await bench.stop();
  }
}

function tableOf(sides: readonly Side[]): Table {
  const rows = works.flatMap((work) =>
    work.roles.map((role) => {
      const costs = sides.map((side) => (side.costs.get(work) ?? []).map((cost) => cost[role]));
      const [before = [], now] = costs;
      return [work.title, role, ...costs.map(spread), ...(now ? [change(before, now)] : [])];
    }),
  );
  const columns = sides.map(({ name }) => `${name}, µs`);
  return { columns: ["CPU per", "program", ...columns, ...(sides.length > 1 ? ["change"] : [])], rows };
}

/** Median, lowest and highest. */
function spread(micros: readonly number[]): string {
  return `${percentile(micros, 0.5).toFixed(1)} (${Math.min(...micros).toFixed(1)}–${Math.max(...micros).toFixed(1)})`;
}

/** Median and quartiles of the ratios of measurements that follow each other. */
function change(before: readonly number[], now: readonly number[]): string {
  const ratios = before.map((micros, i) => (now[i] ?? Number.NaN) / micros);
  const percent = (share: number): string => {
    const value = (percentile(ratios, share) - 1) * 100;
    return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
  };
  return `${percent(0.5)} % (${percent(0.25)} to ${percent(0.75)})`;
}

await runScenario(run);
