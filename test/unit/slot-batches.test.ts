/** Which entries share a call. Calls of one slot keep their order, also where one of them fails or takes longer. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { SlotBatches } from "../../shared/queues/slot-batches.ts";
import type { CellAccess, Cells } from "../../shared/redis/cells.ts";
import { script } from "../../shared/redis/scripts.ts";
import { eventually } from "../support/eventually.ts";

const echo = script<string[]>(new URL("../../shared/queues/enqueue.lua", import.meta.url), 2);

interface Call {
  values: readonly unknown[];
  reply(): void;
  fail(): void;
}

/** A Redis that is answered for by the test. */
function asked(): { calls: Call[]; cells: Pick<Cells, "groups"> } {
  const calls: Call[] = [];
  const access = {
    root: "test",
    run: async (_script: unknown, _key: string, _other: string, ...values: unknown[]) => {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      calls.push({
        values,
        reply: () => resolve(values),
        fail: () => reject(new Error("not loaded")),
      });
      return promise;
    },
  } as unknown as CellAccess;
  const cells: Pick<Cells, "groups"> = {
    groups: (slots, ask) => [{ slots, replies: ask(access, slots).then((reply) => [reply]) }],
  };
  return { calls, cells };
}

const longMs = 60_000;

function batchesOn(
  cells: Pick<Cells, "groups">,
  { inOrder = true, holdMs = longMs }: { inOrder?: boolean; holdMs?: number } = {},
): SlotBatches<string> {
  return new SlotBatches({
    ...{ script: echo, cells, inOrder, holdMs },
    arguments: (groups) => groups.flatMap(({ entries }) => entries.flat()),
  });
}

test("QUE-17: items of a slot wait for the call before theirs, and those of other slots do not", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const replies: string[] = [];
  const add = (slot: number, value: string): void => {
    void batches.add(slot, () => [value], 1).then((reply) => replies.push(reply ?? "not sent"));
  };
  // More than one call takes.
  for (let n = 0; n < 130; n++) add(1, String(n));
  await nextTurn();
  add(1, "130");
  add(2, "other");
  await eventually(() => calls.length === 2);
  expect(calls.map(({ values }) => values.length)).toEqual([128, 1]);
  calls[1]?.reply();
  calls[0]?.reply();
  await eventually(() => calls.length === 3);
  expect(calls[2]?.values).toEqual(["128", "129", "130"]);
  calls[2]?.reply();
  await eventually(() => replies.length === 132);
  expect(replies.filter((reply) => reply !== "other")).toEqual(Array.from({ length: 131 }, (_, n) => String(n)));
});

test("QUE-17: what waits for a call that fails is not stored ahead of it, and later items are", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells);
  const first = batches.add(1, () => ["first"], 1);
  await nextTurn();
  const second = batches.add(1, () => ["second"], 1);
  await nextTurn();
  calls[0]?.fail();
  await expect(first).rejects.toThrow("not loaded");
  await expect(second).rejects.toThrow("not loaded");
  expect(calls.length).toBe(1);
  const third = batches.add(1, () => ["third"], 1);
  await eventually(() => calls.length === 2);
  calls[1]?.reply();
  expect(await third).toBe("third");
});

test("entries that arrive while a call is under way share the next one, in their order", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { inOrder: false });
  const first = batches.add(1, () => ["a"], 1);
  await eventually(() => calls.length === 1);
  const second = batches.add(1, () => ["b"], 1);
  await nextTurn();
  const third = batches.add(2, () => ["c"], 1);
  await nextTurn();
  expect(calls).toHaveLength(1);
  calls[0]?.reply();
  expect(await first).toBe("a");
  await eventually(() => calls.length === 2);
  expect(calls[1]?.values).toEqual(["b", "c"]);
  calls[1]?.reply();
  expect(await Promise.all([second, third])).toEqual(["b", "c"]);
});

test("a call without an answer holds up entries of other slots only for a moment, a failed one not at all", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const stuck = batches.add(1, () => ["a"], 1);
  await eventually(() => calls.length === 1);
  const second = batches.add(2, () => ["b"], 1);
  await eventually(() => calls.length === 2);
  calls[1]?.fail();
  await expect(second).rejects.toThrow("not loaded");
  const third = batches.add(2, () => ["c"], 1);
  await eventually(() => calls.length === 3);
  calls[2]?.reply();
  expect(await third).toBe("c");
  calls[0]?.reply();
  expect(await stuck).toBe("a");
});

test("QUE-17: a later item does not overtake those that wait for a call, when that ends in the same turn", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const first = batches.add(1, () => ["a"], 1);
  await eventually(() => calls.length === 1);
  const second = batches.add(1, () => ["b"], 1);
  const other = batches.add(2, () => ["z"], 1);
  // The hold is over: the second entry was looked at, and waits on.
  await eventually(() => calls.length === 2);
  const third = batches.add(1, () => ["c"], 1);
  calls[0]?.reply();
  calls[1]?.reply();
  await eventually(() => calls.length === 3);
  expect(calls[2]?.values).toEqual(["b", "c"]);
  calls[2]?.reply();
  expect(await Promise.all([first, second, other, third])).toEqual(["a", "b", "z", "c"]);
});
