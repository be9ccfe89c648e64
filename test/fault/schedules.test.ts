/**
 * Clients and publishers at work while links, gateways and Redis break, as a seed draws it. `SCHEDULES_SEED` repeats a
 * run; `npm run checker -- schedules` runs more of them.
 */
import { randomBytes } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { runSchedules, type Summary, summaryText } from "../../loadtest/checker/run-schedules.ts";

const count = 40;
const seed = process.env["SCHEDULES_SEED"] ?? randomBytes(4).toString("hex");
let summary: Summary;
const stories: string[] = [];

beforeAll(async () => {
  summary = await runSchedules({
    count,
    seed,
    onResult: (result) => {
      const violated = result.verdicts.some(({ violations }) => violations.length > 0);
      if (violated || result.failures.length > 0) stories.push(result.story());
    },
  });
  process.stdout.write(`${summaryText(summary)}${stories.join("\n\n")}\n`);
}, 600_000);

test("SYNC-1: whatever breaks, each client gets offset order, no gap, no double, and one signal where its position is gone", () => {
  const violations = Object.entries(summary.violations).filter(([kind]) => kind !== "falseSignal");
  expect({ seed, violations, failures: summary.failures }).toEqual({ seed, violations: [], failures: [] });
});

test("SYNC-2: whatever breaks, who lost nothing is not told to resync", () => {
  expect({ seed, falseSignals: summary.violations["falseSignal"] ?? 0 }).toEqual({ seed, falseSignals: 0 });
});

test("every fault had its turn at least twice, and the clients had something to miss", () => {
  expect(summary.schedules).toBe(count);
  expect(Object.entries(summary.faults).filter(([, times]) => times < 2)).toEqual([]);
  expect(summary.signals).toBeGreaterThan(0);
  expect(summary.gone).toBeGreaterThan(0);
});
