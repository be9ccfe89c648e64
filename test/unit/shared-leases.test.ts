/** The share of a process that lacks some of it while others hold nearly all there is. */
import { expect, onTestFinished, test, vi } from "vitest";
import { type HeldLease, SharedLeases } from "../../private-api/leases/shared-leases.ts";
import { maxShards } from "../../shared/rules/sql-sources.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import type { ShardLease } from "../../shared/sql-sources/contract.ts";
import { MemorySqlShardStore } from "../../shared/sql-sources/memory.ts";

type Shares = SharedLeases<string, ShardLease, HeldLease<ShardLease>>;

const named = (count: number): string[] => Array.from({ length: count }, (_, n) => `crm/SHARD_${n}`);

function sharesOf(store: MemorySqlShardStore, all: readonly string[], readers: number): Shares {
  return new SharedLeases({
    store,
    nameOf: ({ shard }) => shard,
    all: () => all,
    toHeld: (lease, heldSince) => ({ lease, heldSince }),
    readers: async () => readers,
    onLost: () => undefined,
  });
}

test("SQL-4: the process whose share of 2,000 shards is one short asks for all others in few calls", async () => {
  const store = new MemorySqlShardStore();
  const all = named(maxShards);
  // 667, 667 and 666.
  const shares = [1, 2, 3].map(() => sharesOf(store, all, 3));
  for (const share of shares) await share.renew();
  const asked = vi.spyOn(store, "takeLeases");
  await shares[2]?.renew();
  expect(shares.map((share) => share.all.size)).toEqual([667, 667, 666]);
  expect(asked.mock.calls.flatMap(([names]) => names)).toHaveLength(2 * 667);
  expect(asked.mock.calls.length).toBeLessThanOrEqual(11);
});

test("SQL-4: a process that finds more free than it lacks gives the others back, wherever it begins to ask", async () => {
  const all = named(16);
  const random = vi.spyOn(Math, "random");
  onTestFinished(() => random.mockRestore());
  let givenBack = 0;
  for (let from = 0; from < all.length; from++) {
    random.mockReturnValue(from / all.length);
    const store = new MemorySqlShardStore();
    await store.takeLeases(all.slice(0, 10), "another process");
    const release = store.releaseLeases.bind(store);
    store.releaseLeases = async (leases) => {
      givenBack += leases.length;
      await release(leases);
      // Its Redis answers no more: what was taken stays held.
      throw brokerUnavailable("the store of the test fails");
    };
    const share = sharesOf(store, all, 16);
    expect(await share.renew()).toHaveLength(1);
    expect(share.all.size).toBe(1);
    expect(await store.takeLeases(all, "a third process")).toHaveLength(5);
  }
  expect(givenBack).toBeGreaterThan(0);
});
