/** Pulls that wait for changes. */
import { expect, test } from "vitest";
import { ChangeWaiters } from "../../private-api/changes/change-waiters.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { slotOf } from "../../shared/redis/slots.ts";

const change = { channel: "board:1", epoch: "e", offset: 1, prev: 0, event: "moved", data: "1" };
const retention = { maxBytes: 1 << 20, maxSeconds: 60, unclaimedSeconds: 60 };
const { signal } = new AbortController();

test("CHG-9: a wait ends with a change that was appended after it began to listen", async () => {
  const log = new MemoryChangeLog();
  const waiters = new ChangeWaiters(log);
  const [wait, other] = [await waiters.listen(["board:*"]), await waiters.listen(["chat:*", "board:2"])];
  log.append(change, retention);
  expect(await wait.wait(60_000, signal)).toEqual(new Set([slotOf("board:1")]));
  expect(await wait.wait(1, signal)).toEqual(new Set());
  expect(await other.wait(1, signal)).toEqual(new Set());
  wait.end();
  other.end();
});

test("CHG-9: past 1,000 waiting pulls another one is refused, until one ends", async () => {
  const waiters = new ChangeWaiters(new MemoryChangeLog());
  const gone = new AbortController();
  const waits = await Promise.all(Array.from({ length: 1_001 }, async () => waiters.listen(["board:*"])));
  const waiting = waits.slice(0, 1_000).map(async (each) => each.wait(60_000, gone.signal));
  expect(waiters.waiting).toBe(1_000);
  await expect(waits[1_000]?.wait(60_000, signal)).rejects.toMatchObject({ code: "rate_limited" });
  gone.abort();
  await Promise.all(waiting);
  expect(waiters.waiting).toBe(0);
  expect(await waits[1_000]?.wait(1, signal)).toEqual(new Set());
});
