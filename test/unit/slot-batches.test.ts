/** Calls of one slot keep their order, also where one of them fails or takes longer. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { SlotBatches } from "../../shared/queues/slot-batches.ts";
import type { CellAccess, Cells } from "../../shared/redis/cells.ts";
import { script } from "../../shared/redis/scripts.ts";

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

function batchesOn(cells: Pick<Cells, "groups">, inOrder: boolean): SlotBatches<string> {
  return new SlotBatches({
    ...{ script: echo, cells, inOrder },
    arguments: (groups) => groups.flatMap(({ entries }) => entries.flat()),
  });
}

test("QUE-17: items of a slot wait for the call before theirs, and those of other slots do not", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, true);
  const replies: string[] = [];
  const add = (slot: number, value: string): void => {
    void batches.add(slot, [value]).then((reply) => replies.push(reply));
  };
  // More than one call takes.
  for (let n = 0; n < 130; n++) add(1, String(n));
  await nextTurn();
  add(1, "130");
  add(2, "other");
  await nextTurn();
  expect(calls.map(({ values }) => values.length)).toEqual([128, 1]);
  calls[1]?.reply();
  calls[0]?.reply();
  await nextTurn();
  await nextTurn();
  expect(calls[2]?.values).toEqual(["128", "129", "130"]);
  calls[2]?.reply();
  await nextTurn();
  expect(replies.filter((reply) => reply !== "other")).toEqual(Array.from({ length: 131 }, (_, n) => String(n)));
});

test("QUE-17: what waits for a call that fails is not stored ahead of it, and later items are", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, true);
  const first = batches.add(1, ["first"]);
  await nextTurn();
  const second = batches.add(1, ["second"]);
  await nextTurn();
  calls[0]?.fail();
  await expect(first).rejects.toThrow("not loaded");
  await expect(second).rejects.toThrow("not loaded");
  expect(calls.length).toBe(1);
  const third = batches.add(1, ["third"]);
  await nextTurn();
  calls[1]?.reply();
  expect(await third).toBe("third");
});
