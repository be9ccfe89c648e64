/**
 * A slice of `npm run fuzz`: the corpus, a round of inputs that are the same each time, and a round with a random seed.
 * `FUZZ_SEED` repeats it.
 */
import { randomBytes } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import type { FuzzReport } from "../../loadtest/fuzz/report.ts";
import { reportText } from "../../loadtest/fuzz/report.ts";
import { runFuzz } from "../../loadtest/fuzz/run.ts";
import { targets } from "../../loadtest/fuzz/targets.ts";

const seed = process.env["FUZZ_SEED"] ?? randomBytes(4).toString("hex");
let report: FuzzReport;

beforeAll(async () => {
  report = await runFuzz({
    seed,
    seconds: 8,
    frames: Infinity,
    requests: Infinity,
    targets: targets.map(({ name }) => name),
    keep: false,
    json: false,
    huntMs: 10_000,
    // Other tests share the caches and cores.
    costFactor: 2,
    say: () => undefined,
  });
  process.stdout.write(reportText(report));
}, 1_200_000);

test("FUZZ-1: no input ends a process, makes it log a failure, or stays unanswered", () => {
  const found = report.violations.filter(({ kind }) => kind !== "blocked");
  expect({ seed, found, contained: report.contained }).toEqual({ seed, found: [], contained: [] });
  expect(report.endedInOrder).toBe(true);
});

test("FUZZ-2: an honest client is served while other clients send anything", () => {
  expect({ seed, failures: report.honestFailures }).toEqual({ seed, failures: {} });
  // Figures of slices in which the machine starved a process are left out.
  expect(report.honest.calls.count + report.starved).toBeGreaterThan(0);
});

test("FUZZ-3: sessions, calls, descriptors and memory are free once the inputs end", () => {
  const memory = report.verdicts.filter(({ title, pass }) => title.startsWith("growth") && !pass);
  expect({ seed, leftovers: report.leftovers, memory }).toEqual({ seed, leftovers: [], memory: [] });
});

test("FUZZ-4: no single input blocks a process beyond its limit", () => {
  const blocked = report.violations.filter(({ kind }) => kind === "blocked");
  expect({ seed, blocked }).toEqual({ seed, blocked: [] });
  expect(report.measured).toBeGreaterThan(0);
});

test("every target gets inputs", () => {
  const idle = Object.entries(report.tallies).filter(([, { frames, requests }]) => frames + requests === 0);
  expect(idle).toEqual([]);
});
