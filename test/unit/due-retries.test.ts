/** When a dispatcher looks for the retries that it has delayed. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DueRetries } from "../../private-api/dispatch/due-retries.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import { quietErrors } from "../support/logger.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

type Promoted = Awaited<ReturnType<QueueStore["promote"]>>;

/** @param replies one for each look; after the last one nothing is left. @returns the ms of each look, and its slots */
function watched(replies: Promoted[]): { retries: DueRetries; looks: [ms: number, slots: readonly number[]][] } {
  const looks: [number, readonly number[]][] = [];
  const promote = async (slots: readonly number[] = []): Promise<Promoted> => {
    looks.push([performance.now(), slots]);
    return replies.shift() ?? { nextMs: undefined, unreached: [] };
  };
  return { retries: new DueRetries({ promote } as never, quietErrors, () => undefined), looks };
}

test("QUE-14: a retry that is not due yet by the clock of the store is looked for when it is", async () => {
  const { retries, looks } = watched([{ nextMs: 40, unreached: [] }]);
  const from = performance.now();
  retries.expect(7, 100);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(looks.map(([ms, slots]) => [ms - from, slots])).toEqual([
    [100, [7]],
    [140, [7]],
  ]);
});

test("QFAIL-9: a retry in a slot that cannot be reached is looked for again a little later, without the others", async () => {
  const { retries, looks } = watched([{ nextMs: undefined, unreached: [{ slots: [7], error: new Error("away") }] }]);
  const from = performance.now();
  for (const slot of [7, 8]) retries.expect(slot, 100);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(looks.map(([ms, slots]) => [ms - from, slots])).toEqual([
    [100, [7, 8]],
    [350, [7]],
  ]);
});

test("a retry that is due sooner is not delayed by one that is due later", async () => {
  const { retries, looks } = watched([]);
  const from = performance.now();
  retries.expect(7, 5_000);
  retries.expect(8, 100);
  await vi.advanceTimersByTimeAsync(1_000);
  retries.stop();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(looks.map(([ms, slots]) => [ms - from, slots])).toEqual([[100, [8]]]);
});
