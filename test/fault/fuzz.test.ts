/**
 * A slice of what `npm run fuzz` does: the corpus, a round of inputs that are the same each time, and one of a random seed.
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
    // Caches and cores are shared with other tests.
    costFactor: 2,
    say: () => undefined,
  });
  process.stdout.write(reportText(report));
}, 300_000);

test("FUZZ-1: no input ends a process, makes it log a failure of its own, or has no answer", () => {
  const found = report.violations.filter(({ kind }) => kind !== "blocked");
  expect({ seed, found, contained: report.contained }).toEqual({ seed, found: [], contained: [] });
  expect(report.endedInOrder).toBe(true);
});

test("FUZZ-2: an honest client is served while others send anything", () => {
  expect({ seed, failures: report.honestFailures }).toEqual({ seed, failures: {} });
  // What it saw while the machine gave a process no core is not counted.
  expect(report.honest.calls.count + report.starved).toBeGreaterThan(0);
});

test("FUZZ-3: sessions, calls, descriptors and memory are free when the inputs are over", () => {
  const memory = report.verdicts.filter(({ title, pass }) => title.startsWith("growth") && !pass);
  expect({ seed, leftovers: report.leftovers, memory }).toEqual({ seed, leftovers: [], memory: [] });
});

test("FUZZ-4: no single input keeps a process busy for longer than it may", () => {
  const blocked = report.violations.filter(({ kind }) => kind === "blocked");
  expect({ seed, blocked }).toEqual({ seed, blocked: [] });
  expect(report.measured).toBeGreaterThan(0);
});

test("every target had its turn", () => {
  const idle = Object.entries(report.tallies).filter(([, { frames, requests }]) => frames + requests === 0);
  expect(idle).toEqual([]);
});
