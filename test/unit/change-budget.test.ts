/** How the caps of the change log are shared among the slots. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ChangeBudget, levelOf } from "../../shared/changes/budget.ts";
import type { SlotFigures } from "../../shared/changes/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { quietLogger } from "../support/logger.ts";

test("CHG-3: the largest slots are cut to one size, so that all together fit", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1_000), { minLength: 1 }), fc.integer({ min: 1, max: 20_000 }), (sizes, most) => {
      const level = levelOf(sizes, most);
      const total = sizes.reduce((sum, size) => sum + Math.min(size, level), 0);
      if (level === Infinity) expect(total).toBeLessThanOrEqual(most);
      else expect(total).toBeCloseTo(most);
    }),
  );
});

test("CHG-3: one slot may keep what all others leave", async () => {
  const [one, two] = ["board:1", "board:2"];
  const figures: SlotFigures[] = [
    { slot: slotOf(two), bytes: 600, changes: 1, oldestAt: 1, newest: "1-1", rowBytes: 40 },
  ];
  const log = { figures: async () => figures };
  const budget = new ChangeBudget({ log, maxBytes: 1_000_000, maxSeconds: 60, maxRowBytes: 100, logger: quietLogger });
  const all = { maxBytes: 1_000_000, maxSeconds: 60, unclaimedSeconds: 60, maxRowBytes: 100 };
  expect(budget.retention(one, 0)).toEqual(all);
  await Promise.resolve();
  await Promise.resolve();
  expect(budget.retention(one, 0)).toMatchObject({ maxBytes: 999_400, maxRowBytes: 60 });
  expect(budget.retention(two, 1_000_000).maxBytes).toBeLessThan(1_000_000);
});

test("CHG-3: slots that fill one after the other share the cap at once, not only with the next read", () => {
  const log = { figures: async () => new Promise<never>(() => undefined) };
  const budget = new ChangeBudget({ log, maxBytes: 16_000, maxSeconds: 60, maxRowBytes: 0, logger: quietLogger });
  const most = Array.from({ length: 4 }, (_, slot) => {
    for (let change = 0; change < 50; change++) budget.retention(`board:${slot}`, 1_000);
    return budget.retention(`board:${slot}`, 0).maxBytes;
  });
  expect(new Set(most.map((_, slot) => slotOf(`board:${slot}`))).size).toBe(4);
  for (const [index, bytes] of most.entries()) expect(bytes).toBeCloseTo(16_000 / (index + 1), 0);
});
