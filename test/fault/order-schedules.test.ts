/**
 * Clients emit on enqueue routes, and providers send webhooks, while workers, gateways, services and Redis break; a seed draws the faults.
 * `SCHEDULES_SEED` repeats a run, `npm run checker -- order-schedules` runs more schedules.
 */
import { randomBytes } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { isBroken, tracesExcerpt } from "../../loadtest/checker/schedule-series.ts";
import { orderSummaryText, type OrderSummary, runOrderSchedules } from "../../loadtest/order/run-schedules.ts";

const count = 30;
/** Those of order/faults.ts, and those of each Redis. */
const faultKinds = 25;
const seed = process.env["SCHEDULES_SEED"] ?? randomBytes(4).toString("hex");
let summary: OrderSummary;
const traces: string[] = [];

beforeAll(async () => {
  summary = await runOrderSchedules({
    count,
    seed,
    onResult: (result) => {
      if (isBroken(result)) traces.push(result.trace());
    },
  });
  process.stdout.write(`${orderSummaryText(summary)}${traces.join("\n\n")}\n`);
}, 1_200_000);

test("QFAIL-8: under any fault each key stays in order, and nothing acknowledged is lost", () => {
  const { violations, failures } = summary;
  expect({ seed, violations, failures }, tracesExcerpt(traces)).toEqual({ seed, violations: {}, failures: [] });
});

test("every fault occurs at least twice, and items come again", () => {
  expect(summary.schedules).toBe(count);
  expect(Object.entries(summary.faults).filter(([, times]) => times < 2)).toEqual([]);
  expect(Object.keys(summary.faults)).toHaveLength(faultKinds);
  expect(summary.movedSlots).toBeGreaterThan(0);
  expect(summary.totals.repeats).toBeGreaterThan(0);
  expect(summary.totals.deadLetters).toBeGreaterThan(0);
});
