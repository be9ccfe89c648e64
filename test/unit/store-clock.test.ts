/** The clock of the session store, which dates grants and items. */
import { beforeEach, expect, test, vi } from "vitest";
import { StoreClock } from "../../shared/sessions/store-clock.ts";

/** Unix ms by the store's clock at `performance.now()` 0. */
const start = Date.UTC(2001, 1, 3);
let nowMs = 0;
beforeEach(() => {
  nowMs = 1_000;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => nowMs);
  return () => clock.mockRestore();
});

/** The store reads its clock after `thereMs`; its reply is read after `backMs` more. */
function ask(clock: StoreClock, { thereMs = 1, backMs = 1, aheadMs = 0 }): void {
  const askedAt = nowMs;
  nowMs += thereMs;
  const storeNow = start + nowMs + aheadMs;
  nowMs += backMs;
  clock.set(storeNow, askedAt);
}

test("GRANT-2: the estimate of the store's clock is never ahead of it", () => {
  const clock = new StoreClock();
  for (const [thereMs, backMs] of [
    [900, 30],
    [0, 5],
    [5_000, 0],
    [0, 5_000],
    [1, 1],
  ] as const) {
    ask(clock, { thereMs, backMs });
    expect(clock.now()).toBeLessThanOrEqual(start + nowMs);
  }
  expect(clock.now()).toBe(start + nowMs - 1);
});

test.for([2_000, 60_000])("QUE-14: a reply that is read %i ms late does not set the clock back", (lateMs) => {
  const clock = new StoreClock();
  ask(clock, {});
  for (const delays of [{ backMs: lateMs }, { thereMs: lateMs }]) {
    ask(clock, delays);
    expect(clock.now()).toBe(start + nowMs - 1);
  }
});

test.for([-5_000, 5_000])("PERM-3: the clock follows that of the store when it steps by %i ms", (aheadMs) => {
  for (const backMs of [1, 2_000]) {
    const clock = new StoreClock();
    ask(clock, {});
    ask(clock, { backMs, aheadMs });
    expect(clock.now()).toBe(start + nowMs + aheadMs - backMs);
  }
});
