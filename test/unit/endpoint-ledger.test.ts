/** The verdicts of endpoint schedules: they find every breach of the contract, and no other. */
import { expect, test } from "vitest";
import { type Delivery, DeliveryLedger, type Expectation } from "../../loadtest/endpoints/delivery-ledger.ts";
import type { LoggedChange } from "../../loadtest/endpoints/log.ts";

/** Of one channel and key, with the offsets 1 to `count`. */
function logOf(count: number): LoggedChange[] {
  return Array.from({ length: count }, (_, at) => ({
    ...{ channel: "changes:a", epoch: "e", offset: at + 1, item: `item-${at + 1}`, key: "k", at: 1_000 + at },
  }));
}

const log = logOf(4);

/** @param steps what arrives, one after the other: its offset, and whether it is taken */
function verdictOn(
  steps: readonly (readonly [offset: number, taken: boolean, changes?: Partial<Delivery>])[],
  expectation: Partial<Expectation> = {},
): { kinds: string[]; repeats: number; gone: number } {
  const ledger = new DeliveryLedger("test", ({ channel }) => channel);
  for (const [at, [offset, taken, changes]] of steps.entries()) {
    const logged = log[offset - 1] ?? { ...logOf(1)[0], offset, item: "unknown" };
    ledger.arrived({
      ...(logged as LoggedChange),
      ...{ arrivedAt: at * 10, webhookId: `id-${offset}`, body: `body-${offset}`, isSigned: true },
      sequence: String(offset).padStart(20, "0"),
      ...(taken && { takenAt: at * 10 + 5 }),
      ...changes,
    });
  }
  const { violations, repeats, gone } = ledger.judge({
    ...{ log, isExplained: () => false, lossDeclared: false, maxRepeats: 1 },
    ...expectation,
  });
  return { kinds: violations.map(({ kind }) => kind), repeats, gone };
}

const inOrder = [1, 2, 3, 4].map((offset) => [offset, true] as const);

test("everything in order, retried and repeated within bounds, is no violation", () => {
  expect(verdictOn(inOrder)).toEqual({ kinds: [], repeats: 0, gone: 0 });
  expect(verdictOn([[1, false], [1, false], ...inOrder]).kinds).toEqual([]);
  expect(verdictOn([[1, true], ...inOrder])).toEqual({ kinds: [], repeats: 1, gone: 0 });
});

test("a change that never came, or was never taken, is missing, unless a declared loss explains it", () => {
  expect(verdictOn(inOrder.slice(0, 3)).kinds).toEqual(["missing"]);
  expect(verdictOn([...inOrder.slice(0, 3), [4, false]]).kinds).toEqual(["missing"]);
  expect(verdictOn(inOrder.slice(0, 3), { isExplained: () => true })).toEqual({ kinds: [], repeats: 0, gone: 1 });
});

test("a change that comes before the one ahead of it is taken is inverted", () => {
  const swapped = [inOrder[0], inOrder[2], inOrder[1], inOrder[3]].flatMap((step) => (step ? [step] : []));
  expect(verdictOn(swapped).kinds).toContain("inverted");
  expect(
    verdictOn([
      [1, true],
      [2, false],
      [3, true],
      [2, true],
      [4, true],
    ]).kinds,
  ).toContain("inverted");
});

test("too many repeats, another body, an unknown change, no signature and an old sequence are found", () => {
  expect(verdictOn([[1, true], [1, true], ...inOrder]).kinds).toEqual(["doubled"]);
  expect(verdictOn([[1, true, { body: "other" }], ...inOrder]).kinds).toEqual(["changed"]);
  expect(verdictOn([...inOrder, [9, true]]).kinds).toEqual(["unknown"]);
  expect(verdictOn([[1, true, { isSigned: false }], ...inOrder.slice(1)]).kinds).toEqual(["unsigned"]);
  const old = { sequence: "0".repeat(20) };
  expect(verdictOn([...inOrder.slice(0, 3), [4, true, old]]).kinds).toEqual(["sequenceBroken"]);
});
