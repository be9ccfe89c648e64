/** When a private API sweeps what gateways held that are gone. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { SessionSweep } from "../../private-api/dispatch/session-sweep.ts";
import { leaseMs } from "../../shared/sessions/contract.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("PRES-4: a private API that was paused before it read an answer gives gateways the time to return", async () => {
  const running = performance.now.bind(performance);
  let pausedMs = 0;
  let pauses = false;
  let sweeps = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + pausedMs);
  const store = {
    renewLease: async () => {
      if (pauses) pausedMs = 60_000;
      return false;
    },
    sweep: async () => ++sweeps,
  };
  const sweep = new SessionSweep({ store, isWanted: () => true, errors: quietErrors, logger: quietLogger });
  await sweep.start();
  await vi.advanceTimersByTimeAsync(leaseMs);
  pauses = true;
  await vi.advanceTimersByTimeAsync(leaseMs);
  expect([pausedMs, sweeps]).toEqual([60_000, 0]);
  await vi.advanceTimersByTimeAsync(6_000);
  expect(sweeps).toBeGreaterThan(0);
  await sweep.stop();
  clock.mockRestore();
});
