import { expect, test } from "vitest";
import { AnswerBudget, type AnswerPart } from "../../shared/services/answer-budget.ts";

/** Longer than any test. */
const waitMs = 60_000;

async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** Parts that request room for a large answer, and the admitted ones. */
async function grow(parts: readonly AnswerPart[], service: string): Promise<void> {
  for (const part of parts) void part.grow(service, waitMs);
  await settled();
}

function parts(budget: AnswerBudget, count: number, of: { asker?: string; session?: string } = {}): AnswerPart[] {
  return Array.from({ length: count }, (_, i) => budget.part(of.asker ?? `asker ${i}`, of.session ?? `session ${i}`));
}

const large = (all: readonly AnswerPart[]): number => all.filter((part) => part.isLarge).length;

test("RELAY-8: large answers of one session are read two at a time, in order", async () => {
  const budget = new AnswerBudget();
  const all = parts(budget, 100, { session: "one" });
  await grow(all, "a");
  for (let passed = 0; passed < all.length; passed++) {
    expect(budget.taken).toBe(Math.min(2, all.length - passed));
    expect(all[passed]?.isLarge).toBe(true);
    all[passed]?.release();
    await settled();
  }
  expect(budget.taken).toBe(0);
});

test.each([
  ["a service", { service: "one" }],
  ["an asker", { asker: "one" }],
])(
  "RELAY-8: %s has at most half of the budget; others get the rest",
  async (_name, { service, asker }: { service?: string; asker?: string }) => {
    const budget = new AnswerBudget();
    const greedy = parts(budget, 100, asker === undefined ? {} : { asker });
    for (const [i, part] of greedy.entries()) await grow([part], service ?? `service ${i}`);
    expect(large(greedy)).toBe(16);
    const others = parts(budget, 20);
    for (const [i, part] of others.entries()) await grow([part], `other ${i}`);
    expect(large(others)).toBe(16);
    expect(budget.taken).toBe(32);
    others[0]?.release();
    await settled();
    expect([large(greedy), budget.taken]).toEqual([16, 32]);
  },
);

test("RELAY-8: a part released while it waits takes nothing", async () => {
  const budget = new AnswerBudget();
  const [first, second, third] = parts(budget, 3, { session: "one" });
  if (!first || !second || !third) throw new Error("three parts");
  await grow([first, second], "a");
  const growing = third.grow("a", waitMs);
  third.release();
  first.release();
  expect(await growing).toBe(false);
  second.release();
  expect(budget.taken).toBe(0);
});

test("RELAY-8: a part without room in time takes nothing", async () => {
  const budget = new AnswerBudget();
  const all = parts(budget, 3, { session: "one" });
  await grow(all.slice(0, 2), "a");
  expect(await all[2]?.grow("a", 1)).toBe(false);
  for (const part of all) part.release();
  expect(budget.taken).toBe(0);
});

test("RELAY-8: a part whose time is over waits for nothing, and sets no timer in the past", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on("warning", note);
  const budget = new AnswerBudget();
  const all = parts(budget, 3, { session: "one" });
  await grow(all.slice(0, 2), "a");
  expect(await all[2]?.grow("a", -50)).toBe(false);
  // Warnings are emitted in a later turn.
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", note);
  expect(warnings).toEqual([]);
  for (const part of all) part.release();
});
