/**
 * Sockets, endpoints and pulls follow the same channels while private APIs, Redis and endpoints break; a seed draws the faults.
 * `SCHEDULES_SEED` repeats a run, `npm run checker -- endpoint-schedules` runs more schedules.
 */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { isBroken } from "../../loadtest/checker/schedule-series.ts";
import { endpointSummaryText, runEndpointSchedules } from "../../loadtest/endpoints/run-schedules.ts";

const count = 3;
const seed = process.env["SCHEDULES_SEED"] ?? randomBytes(4).toString("hex");

test("EP-27: under any fault sockets, endpoints and pulls get the same changes in the same order", async () => {
  const traces: string[] = [];
  const summary = await runEndpointSchedules({
    ...{ count, seed, isSmall: true },
    onResult: (result) => {
      if (isBroken(result)) traces.push(result.trace());
    },
  });
  process.stdout.write(`${endpointSummaryText(summary)}${traces.join("\n\n")}\n`);
  const { schedules, violations, failures } = summary;
  expect({ seed, schedules, violations, failures }).toEqual({ seed, schedules: count, violations: {}, failures: [] });
  expect(summary.changes).toBeGreaterThan(0);
}, 1_200_000);
