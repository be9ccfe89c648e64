/** The lag of an endpoint that is behind in the log. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { cursorName } from "../../private-api/endpoints/behind.ts";
import { waitingInLog } from "../../private-api/endpoints/waiting-in-log.ts";
import { type Place, placeBeforeAll } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { placeAtTime } from "../../shared/changes/places.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { storedEndpoint } from "../support/stored-endpoint.ts";

const retention = { maxBytes: 1e9, maxSeconds: 1e9, unclaimedSeconds: 1e9 };
const stored = storedEndpoint({ startsAt: 3_000 });

let log: MemoryChangeLog;
let now = 0;
beforeEach(() => {
  log = new MemoryChangeLog();
  vi.spyOn(Date, "now").mockImplementation(() => now);
});
afterEach(() => {
  vi.restoreAllMocks();
});

function publish(channel: string, at: number): Place {
  now = at;
  log.append({ channel, epoch: "e", offset: 1, prev: 0, event: "moved", data: "{}" }, retention);
  return `${at}-1`;
}

async function fallBehind(channel: string, place: Place): Promise<void> {
  await log.saveCursors([{ slot: slotOf(channel), name: cursorName(stored), place }]);
}

test("EP-4: the age is that of the oldest change that waits, not of the last one that the endpoint got", async () => {
  const got = publish("board:1", 1_000);
  await fallBehind("board:1", got);
  expect(await waitingInLog(log, stored)).toEqual({ changes: 0, oldestAt: Infinity });
  publish("board:1", 50_000);
  expect(await waitingInLog(log, stored)).toEqual({ changes: 1, oldestAt: 50_000 });
});

test("EP-4: an endpoint that begins at a time waits for the first change from then on", async () => {
  await fallBehind("board:1", placeBeforeAll);
  await fallBehind("board:2", placeAtTime(5_000));
  for (const at of [1_000, 2_999]) publish("board:1", at);
  for (const at of [1_000, 4_999]) publish("board:2", at);
  expect(await waitingInLog(log, stored)).toEqual({ changes: 0, oldestAt: Infinity });
  publish("board:2", 6_000);
  expect(await waitingInLog(log, stored)).toEqual({ changes: 3, oldestAt: 6_000 });
  publish("board:1", 7_000);
  expect((await waitingInLog(log, stored)).oldestAt).toBe(6_000);
});

test("EP-4: the log is read once for each of the slots in which the endpoint is furthest behind", async () => {
  const bySlot = new Map(Array.from({ length: 300 }, (_, n) => [slotOf(`board:${n}`), `board:${n}`]));
  const channels = [...bySlot.values()].slice(0, 40);
  for (const [n, channel] of channels.entries()) await fallBehind(channel, publish(channel, 1_000 + n));
  for (const [n, channel] of channels.entries()) publish(channel, 50_000 + n);
  const read = vi.spyOn(log, "read");
  expect(await waitingInLog(log, stored)).toEqual({ changes: 40, oldestAt: 50_000 });
  expect(read).toHaveBeenCalledTimes(16);
});

test("EP-4: an endpoint that begins before all of the log waits for the oldest change of any slot", async () => {
  const bySlot = new Map(Array.from({ length: 300 }, (_, n) => [slotOf(`board:${n}`), `board:${n}`]));
  const channels = [...bySlot].toSorted(([one], [other]) => one - other).map(([, channel]) => channel);
  // The oldest one is in the last slot.
  for (const [n, channel] of channels.toReversed().entries()) {
    await fallBehind(channel, placeBeforeAll);
    publish(channel, 5_000 + n);
  }
  expect(await waitingInLog(log, stored)).toEqual({ changes: channels.length, oldestAt: 5_000 });
});
