/** Readers under leases: new rules, and a process that stops or is frozen. */
import { expect, onTestFinished, test, vi } from "vitest";
import { type LeasedReader, LeasedReaders, type ReaderTerms } from "../../private-api/leases/leased-readers.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import { MemorySqlShardStore } from "../../shared/sql-sources/memory.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

test("SQL-4: a process that stops while new rules take effect keeps no lease", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const store = new MemorySqlShardStore();
  const current = { rules: { version: 1 } };
  /** Questions of renewals, each answered by the test. */
  const counting: ((readers: number) => void)[] = [];
  const readers = new LeasedReaders<string, LeasedReader<string>>({
    ...{ store, rules: current as unknown as CurrentRules, errors: quietErrors, logger: quietLogger },
    what: "SQL sources",
    itemsOf: () => new Map([["shard", "item"]]),
    isSame: (one, other) => one === other,
    open: (item) => ({ item, status: undefined, start: () => undefined, stop: async () => undefined }),
    renewMs: 500,
    readers: async () => new Promise((resolve) => counting.push(resolve)),
  });
  const started = readers.start();
  await eventually(() => counting.length === 1);
  counting[0]?.(1);
  await started;
  expect((await store.read("shard")).isRead).toBe(true);
  // A renewal is under way when the new rules come: they wait for its end.
  vi.advanceTimersByTime(500);
  await eventually(() => counting.length === 2);
  current.rules = { version: 2 };
  vi.advanceTimersByTime(500);
  const stopped = readers.stop();
  counting[1]?.(1);
  await stopped;
  for (const answer of counting) answer(1);
  await new Promise((resolve) => setImmediate(resolve));
  expect((await store.read("shard")).isRead).toBe(false);
});

test("SQL-4: a reader that was frozen stores nothing under the next lease of its process", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  let frozenMs = 0;
  const now = performance.now.bind(performance);
  vi.spyOn(performance, "now").mockImplementation(() => now() + frozenMs);
  onTestFinished(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });
  const store = new MemorySqlShardStore();
  const terms: ReaderTerms[] = [];
  /** The first reader has something under way when it is told to stop. */
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const readers = new LeasedReaders<string, LeasedReader<string>>({
    ...{ store, rules: { rules: { version: 1 } } as unknown as CurrentRules, errors: quietErrors, logger: quietLogger },
    what: "SQL sources",
    itemsOf: () => new Map([["shard", "item"]]),
    isSame: (one, other) => one === other,
    open: (item, given) => {
      terms.push(given);
      return { item, status: undefined, start: () => undefined, stop: async () => ended };
    },
    renewMs: 500,
    readers: async () => 1,
  });
  await readers.start();
  const first = terms[0]?.lease();
  expect(first).toBeDefined();
  frozenMs = 60_000;
  const others = await store.takeLeases(["shard"], "another process");
  if (others[0]) await store.save(others[0], { progress: "newer" });
  await store.releaseLeases(others);
  vi.advanceTimersByTime(500);
  await eventually(async () => (await store.read("shard")).isRead);
  expect(terms[0]?.lease()).toBeUndefined();
  expect(terms.length).toBe(1);
  end();
  await eventually(() => {
    vi.advanceTimersByTime(500);
    return terms.length === 2;
  });
  terms[0]?.onLeaseEnded();
  expect(terms[1]?.lease()?.fence).toBeGreaterThan(first?.fence ?? Infinity);
  expect(await store.read("shard")).toEqual({ progress: "newer", isRead: true });
  await readers.stop();
});

test("SQL-4: rules that are put after the store has lost the ones before take effect, also with their version", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const current = { rules: { version: 1, item: "before" } };
  const opened: string[] = [];
  const readers = new LeasedReaders<string, LeasedReader<string>>({
    store: new MemorySqlShardStore(),
    ...{ rules: current as unknown as CurrentRules, errors: quietErrors, logger: quietLogger },
    what: "SQL sources",
    itemsOf: () => new Map([["shard", current.rules.item]]),
    isSame: (one, other) => one === other,
    open: (item) => {
      opened.push(item);
      return { item, status: undefined, start: () => undefined, stop: async () => undefined };
    },
    readers: async () => 1,
  });
  await readers.start();
  onTestFinished(() => readers.stop());
  expect(opened).toEqual(["before"]);
  current.rules = { version: 1, item: "after" };
  await eventually(() => {
    vi.advanceTimersByTime(1_000);
    return opened.includes("after");
  });
});
