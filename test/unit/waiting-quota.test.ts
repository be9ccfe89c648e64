/** The quota of waiting items of a tenant. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { WaitingQuota } from "../../shared/queues/quota.ts";

// What the quota has read counts for ten seconds.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

function quotaOf(limit: number): { quota: WaitingQuota; store: MemoryQueueStore; reads: () => number } {
  const store = new MemoryQueueStore();
  const waiting = vi.spyOn(store, "waiting");
  const quota = new WaitingQuota({
    limit: () => limit,
    waiting: async (tenant) => store.waiting(tenant, ["messages"]),
  });
  return { quota, store, reads: () => waiting.mock.calls.length };
}

async function fill(store: MemoryQueueStore, tenant: string, items: number): Promise<void> {
  for (let n = 0; n < items; n++) {
    await store.enqueue({ queue: { service: "s", tenant, key: "k" }, class: "messages", head: "{}", data: "1" });
  }
}

test("ENQ-7: a tenant is refused once its items reach the limit, another is not", async () => {
  const { quota, store } = quotaOf(10);
  await fill(store, "full", 9);
  expect(await quota.allows("full", 1)).toBe(true);
  await fill(store, "full", 1);
  expect(await quota.allows("full", 1)).toBe(false);
  expect(await quota.allows("other", 1)).toBe(true);
});

test("ENQ-7: one read of the store refuses all that were asked before it", async () => {
  const { quota, store, reads } = quotaOf(10);
  await fill(store, "full", 10);
  const answers = await Promise.all(Array.from({ length: 1_000 }, async () => quota.allows("full", 1)));
  expect(new Set(answers)).toEqual(new Set([false]));
  expect(reads()).toBe(2);
});

test("ENQ-7: far from its limit a tenant's quota does not read the store for each item", async () => {
  const { quota, reads } = quotaOf(100_000);
  for (let n = 0; n < 1_000; n++) expect(await quota.allows("t", 1)).toBe(true);
  expect(reads()).toBe(1);
});

test("ENQ-2: the quota answers in the order of the requests, also during a read of the store", async () => {
  const { quota } = quotaOf(100_000);
  const order: number[] = [];
  const ask = async (n: number): Promise<void> => {
    await quota.allows("t", 1);
    order.push(n);
  };
  const early = [ask(0), ask(1)];
  await Promise.resolve();
  await Promise.all([...early, ask(2), ask(3)]);
  await Promise.all([ask(4), ask(5)]);
  expect(order).toEqual([0, 1, 2, 3, 4, 5]);
});

test("ENQ-7: a process fills an eighth of what was free before it asks what others have stored", async () => {
  const { quota, store } = quotaOf(100);
  expect(await quota.allows("t", 1)).toBe(true);
  await fill(store, "t", 100);
  let allowed = 0;
  while (await quota.allows("t", 1)) allowed++;
  expect(allowed).toBe(11);
});

test("ENQ-7: what others have stored is asked for again after ten seconds", async () => {
  const { quota, store, reads } = quotaOf(100);
  expect(await quota.allows("t", 1)).toBe(true);
  await fill(store, "t", 100);
  vi.advanceTimersByTime(9_999);
  expect(await quota.allows("t", 1)).toBe(true);
  vi.advanceTimersByTime(2);
  expect(await quota.allows("t", 1)).toBe(false);
  expect(reads()).toBe(2);
});

test("the quota forgets the tenant that it read first, and remembers ten thousand others", async () => {
  const { quota, reads } = quotaOf(100);
  for (let n = 0; n <= 10_000; n++) await quota.allows(`t${n}`, 1);
  await quota.allows("t1", 1);
  expect(reads()).toBe(10_001);
  await quota.allows("t0", 1);
  expect(reads()).toBe(10_002);
});
