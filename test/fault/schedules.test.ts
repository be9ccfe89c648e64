/**
 * Clients and publishers at work while links, gateways and Redis break; a seed draws the faults. `SCHEDULES_SEED` repeats a
 * run, `npm run checker -- schedules` runs more schedules.
 */
import { randomBytes } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { type CheckerSummary, checkerSummaryText, runSchedules } from "../../loadtest/checker/run-schedules.ts";
import { isBroken, tracesExcerpt } from "../../loadtest/checker/schedule-series.ts";

const count = 40;
const seed = process.env["SCHEDULES_SEED"] ?? randomBytes(4).toString("hex");
let summary: CheckerSummary;
const traces: string[] = [];

beforeAll(async () => {
  summary = await runSchedules({
    count,
    seed,
    onResult: (result) => {
      if (isBroken(result)) traces.push(result.trace());
    },
  });
  process.stdout.write(`${checkerSummaryText(summary)}${traces.join("\n\n")}\n`);
}, 1_200_000);

test("SYNC-1: under any fault each client gets offset order, no gap, no double, one signal if lost", () => {
  const violations = Object.entries(summary.violations).filter(([kind]) => kind !== "falseSignal");
  const found = { seed, violations, failures: summary.failures };
  expect(found, tracesExcerpt(traces)).toEqual({ seed, violations: [], failures: [] });
});

test("SYNC-2: under any fault a client that lost nothing does not have to resync", () => {
  const falseSignals = summary.violations["falseSignal"] ?? 0;
  expect({ seed, falseSignals }, tracesExcerpt(traces)).toEqual({ seed, falseSignals: 0 });
});

test("every fault occurs at least twice, and some publications are lost and signalled", () => {
  expect(summary.schedules).toBe(count);
  expect(Object.entries(summary.faults).filter(([, times]) => times < 2)).toEqual([]);
  expect(summary.signals).toBeGreaterThan(0);
  expect(summary.gone).toBeGreaterThan(0);
});
