/** Which leases a dispatcher still holds. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { extendMs, HeldLeases } from "../../private-api/dispatch/held-leases.ts";
import type { Claimed, Lease } from "../../shared/queues/contract.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

function claimedAs(text: string): Claimed {
  const queue = { service: "documents", tenant: "", key: text };
  const lease = { slot: 1, text, queue, class: "messages", fence: "1", items: 1 };
  const item = { sequence: "1", class: "messages", head: "", data: "1" };
  return { lease, attempts: 0, previous: undefined, claimedAt: 0, items: [item] };
}

test("QUE-4: a lease that has ended is neither extended again nor given up", async () => {
  const extended: string[][] = [];
  const settled: string[] = [];
  const store = {
    extend: (leases: readonly Lease[]) => {
      extended.push(leases.map(({ text }) => text));
      return leases.map(async ({ text }) => text !== "ended");
    },
    settle: async ({ text }: Lease) => {
      settled.push(text);
      return true;
    },
  };
  const leases = new HeldLeases(store as never, () => undefined);
  const [ended, held] = ["ended", "held"].map((text) =>
    leases.begin(claimedAs(text), performance.now(), { release: () => undefined }),
  );
  for (let round = 0; round < 2; round++) {
    vi.advanceTimersByTime(Math.ceil(extendMs));
    await leases.extend();
  }
  expect([ended?.lost, held?.lost]).toEqual([true, false]);
  await leases.giveUp();
  expect([extended, settled]).toEqual([[["ended", "held"], ["held"]], ["held"]]);
});
