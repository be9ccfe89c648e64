/** Which entries share a call. Calls of one slot keep their order, also where one of them fails or takes longer. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { SlotBatches } from "../../shared/queues/slot-batches.ts";
import type { CellAccess, Cells } from "../../shared/redis/cells.ts";
import { script } from "../../shared/redis/scripts.ts";
import { eventually } from "../support/eventually.ts";

const echo = script<string>(new URL("../../shared/queues/enqueue.lua", import.meta.url), 2);

interface Call {
  /** A value for each entry. */
  values: readonly string[];
  reply(): void;
  fail(): void;
}

/** A Redis that is answered for by the test. */
function asked(): { calls: Call[]; cells: Pick<Cells, "groups"> } {
  const calls: Call[] = [];
  const access = {
    root: "test",
    run: async (_script: unknown, _key: string, _other: string, ...entries: string[]) => {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      // Behind the slot.
      const values = entries.map((entry) => entry.slice(entry.indexOf(" ") + 1));
      calls.push({
        values,
        reply: () => resolve(values.join(" ")),
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
): SlotBatches {
  return new SlotBatches({ script: echo, head: () => [], separator: " ", cells, inOrder, holdMs });
}

test("QUE-17: items of a slot wait for the call before theirs, and those of other slots do not", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const replies: string[] = [];
  const add = (slot: number, value: string): void => {
    void batches.add(slot, () => value, 1).then((reply) => replies.push(reply ?? "not sent"));
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

test("entries of a slot share a call, and a call takes whole slots", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells);
  for (let n = 0; n < 200; n++) void batches.add(n % 2, () => String(n % 2), 1);
  await nextTurn();
  expect(calls.map(({ values }) => [values.length, new Set(values).size])).toEqual([
    [100, 1],
    [100, 1],
  ]);
});

test("QUE-17: what waits for a call that fails is not stored ahead of it, and later items are", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells);
  const first = batches.add(1, () => "first", 1);
  await nextTurn();
  const second = batches.add(1, () => "second", 1);
  await nextTurn();
  calls[0]?.fail();
  await expect(first).rejects.toThrow("not loaded");
  await expect(second).rejects.toThrow("not loaded");
  expect(calls.length).toBe(1);
  const third = batches.add(1, () => "third", 1);
  await eventually(() => calls.length === 2);
  calls[1]?.reply();
  expect(await third).toBe("third");
});

test("entries that arrive while a call is under way share the next one, in their order", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { inOrder: false });
  const first = batches.add(1, () => "a", 1);
  await eventually(() => calls.length === 1);
  const second = batches.add(1, () => "b", 1);
  await nextTurn();
  const third = batches.add(2, () => "c", 1);
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
  const stuck = batches.add(1, () => "a", 1);
  await eventually(() => calls.length === 1);
  const second = batches.add(2, () => "b", 1);
  await eventually(() => calls.length === 2);
  calls[1]?.fail();
  await expect(second).rejects.toThrow("not loaded");
  const third = batches.add(2, () => "c", 1);
  await eventually(() => calls.length === 3);
  calls[2]?.reply();
  expect(await third).toBe("c");
  calls[0]?.reply();
  expect(await stuck).toBe("a");
});

test("QUE-17: a later item does not overtake those that wait for a call, when that ends in the same turn", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const first = batches.add(1, () => "a", 1);
  await eventually(() => calls.length === 1);
  const second = batches.add(1, () => "b", 1);
  const other = batches.add(2, () => "z", 1);
  // The hold is over: the second entry was looked at, and waits on.
  await eventually(() => calls.length === 2);
  const third = batches.add(1, () => "c", 1);
  calls[0]?.reply();
  calls[1]?.reply();
  await eventually(() => calls.length === 3);
  expect(calls[2]?.values).toEqual(["b", "c"]);
  calls[2]?.reply();
  expect(await Promise.all([first, second, other, third])).toEqual(["a", "b", "z", "c"]);
});

test("QUE-17: an item that does not fit into a call is not overtaken by a small one that would", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const sizes = { a: 600_000, b: 600_000, c: 1 };
  const stored = Object.entries(sizes).map(async ([value, bytes]) => batches.add(1, () => value, bytes));
  await eventually(() => calls.length === 1);
  calls[0]?.reply();
  await eventually(() => calls.length === 2);
  calls[1]?.reply();
  await Promise.all(stored);
  expect(calls.map(({ values }) => values)).toEqual([["a"], ["b", "c"]]);
});

test("32 MiB wait at most, and there is room again once what waited is sent or has failed", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells);
  const bytes = 20 * 1024 * 1024;
  const add = async (value: string): Promise<string | undefined> => batches.add(1, () => value, bytes);
  const first = add("a");
  await expect(add("refused")).rejects.toMatchObject({ code: "broker_unavailable" });
  await eventually(() => calls.length === 1);
  const behind = add("b");
  await expect(add("refused")).rejects.toMatchObject({ code: "broker_unavailable" });
  calls[0]?.fail();
  await expect(first).rejects.toThrow("not loaded");
  await expect(behind).rejects.toThrow("not loaded");
  // What was refused takes the rest of its turn along.
  await nextTurn();
  const later = add("c");
  await eventually(() => calls.length === 2);
  calls[1]?.reply();
  expect(await later).toBe("c");
});

test("QUE-17: where an entry finds no room, those of its slot that follow it in the same turn are refused, too", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells, { holdMs: 1 });
  const large = 20 * 1024 * 1024;
  const add = async (slot: number, bytes: number): Promise<string | undefined> =>
    batches.add(slot, () => "stored", bytes).catch(() => "refused");
  const given = [add(1, large), add(2, large), add(2, 1), add(3, 1)];
  await nextTurn();
  given.push(add(2, 1));
  await eventually(() => calls.length === 3);
  for (const call of calls) call.reply();
  expect(await Promise.all(given)).toEqual(["stored", "refused", "refused", "stored", "stored"]);
});

test("a content that entries share is in each call once, behind them", async () => {
  const { calls, cells } = asked();
  const batches = batchesOn(cells);
  const [one, other] = [{ text: "- one" }, { text: "- other" }];
  for (const content of [one, other, one, undefined, other]) {
    void batches.add(1, (at) => `of ${at}`, 1, content);
  }
  void batches.add(2, () => undefined, 1, { text: "of an entry that is not sent" });
  void batches.add(3, (at) => `of ${at}`, 1, one);
  await nextTurn();
  const entries = ["of 1", "of 2", "of 1", "of 0", "of 2", "of 1"];
  expect(calls.map(({ values }) => values)).toEqual([[...entries, "one", "other"]]);
});
