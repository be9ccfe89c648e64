/** When a gap among auto-increment ids is closed. */
import { expect, test } from "vitest";
import {
  type Gap,
  type Position,
  settleMs,
  type Since,
  withRows,
  withTransactions,
} from "../../private-api/sources/gaps.ts";

const start: Position = { high: "0", gaps: [], lists: [] };

type Statements = Record<string, number>;

function step(
  position: Position,
  transactions: readonly string[],
  clock: { since: Since; now: number },
  statements: Statements = {},
): { position: Position; closing: readonly Gap[] } {
  const underWay = { transactions: new Set(transactions), statements: new Map(Object.entries(statements)) };
  const { closing, ...others } = withTransactions(position, underWay, clock);
  return { ...others, closing: [...closing] };
}

test("SQL-7: ids that are passed over are gaps until their rows appear", () => {
  const passed = withRows(start, ["2", "6"]);
  expect(passed).toMatchObject({
    high: "6",
    gaps: [
      { from: "1", to: "1" },
      { from: "3", to: "5" },
    ],
  });
  const appeared = withRows(passed, ["1", "4", "7"]);
  expect(appeared).toMatchObject({
    high: "7",
    gaps: [
      { from: "3", to: "3" },
      { from: "5", to: "5" },
    ],
  });
});

test("SQL-7: a gap closes only after every transaction that was open soon after it was seen", () => {
  const since: Since = new WeakMap();
  const seen = step(withRows(start, ["2"]), ["a", "b"], { since, now: 0 });
  // The list may be older than the gap: its transactions are not taken yet.
  expect(seen.position.lists).toEqual([]);
  const noted = step(seen.position, ["b", "c"], { since, now: settleMs });
  expect(noted.position.lists).toEqual([{ number: 1, open: ["b", "c"] }]);
  const one = step(noted.position, ["c", "d"], { since, now: settleMs * 2 });
  expect(one.position.lists).toEqual([{ number: 1, open: ["c"] }]);
  const none = step(one.position, ["d"], { since, now: settleMs * 3 });
  expect(none).toMatchObject({ position: { lists: [{ number: 1, open: [] }] }, closing: [] });
  const last = step(none.position, ["d"], { since, now: settleMs * 4 });
  expect(last.closing).toEqual([{ from: "1", to: "1", list: 1 }]);
});

test("SQL-7: a new reader waits again before it closes a gap", () => {
  const ended: Position = { high: "2", gaps: [{ from: "1", to: "1", list: 1 }], lists: [{ number: 1, open: [] }] };
  expect(step(ended, [], { since: new WeakMap(), now: 1_000_000 }).closing).toEqual([]);
});

test("SQL-7: a statement that has drawn an id holds its gap open, and so does the transaction that it leaves", () => {
  const since: Since = new WeakMap();
  const seen = step(withRows(start, ["2"]), [], { since, now: 0 });
  const noted = step(seen.position, ["8@x"], { since, now: settleMs }, { "7": 1_000 });
  expect(noted.position.lists).toEqual([{ number: 1, open: ["8@x", "7#1000"] }]);
  // Its start is not exact.
  const running = step(noted.position, [], { since, now: settleMs * 2 }, { "7": 1_001 });
  expect(running.position.lists).toEqual([{ number: 1, open: ["7#1000"] }]);
  const left = step(running.position, ["7@y", "9@z"], { since, now: settleMs * 3 });
  expect(left.position.lists).toEqual([{ number: 1, open: ["7@y"] }]);
  const ended = step(left.position, ["9@z"], { since, now: settleMs * 4 }, { "7": 1_005 });
  expect(ended.position.lists).toEqual([{ number: 1, open: [] }]);
});
