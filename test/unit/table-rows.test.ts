/** Rows that have left the change log, and that have more data in their table than they were published with. */
import { expect, test } from "vitest";
import { parseChannels } from "../../private-api/changes/channel-filter.ts";
import { ChangePulls, type PullRequest } from "../../private-api/changes/change-pulls.ts";
import { rowKey, type TableRow, type TableRows } from "../../private-api/changes/table-rows.ts";
import { type BegunRead, RowFetches } from "../../private-api/endpoints/row-fetches.ts";
import type { RowChange, SlotQuery, SlotRead } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { quietLogger } from "../support/logger.ts";

const channels = ["account:1", "account:2"];
const rowsPerChannel = 50;
const data = JSON.stringify("x".repeat(60_000));

/** Of one channel, as it is noted: each row had ten bytes of data. */
function rowsOf(channel: string): RowChange[] {
  return Array.from({ length: rowsPerChannel }, (_, n) => ({
    ...{ place: `1000-${n + 1}`, at: 1_000 + n, channel, epoch: "e", offset: n + 1, prev: n, event: "note" },
    ...{ row: { shard: "crm/URL", id: `${channel} ${n + 1}` }, bytes: 10 },
  }));
}

function readOf(channel: string, after = "0-0"): SlotRead {
  const place = `1000-${rowsPerChannel}`;
  const left = rowsOf(channel).filter((change) => comparePlaces(change.place, after) > 0);
  const rows = left.length > 0 && { changes: left, until: place };
  return { slot: slotOf(channel), changes: [], place, newest: place, ...(rows && { rows }) };
}

/** Every tenth row is gone. */
const tables: TableRows = {
  read: async (asked) =>
    new Map(
      asked
        .filter(({ id }) => !id.endsWith("0"))
        .map((row): [string, TableRow] => [
          rowKey(row),
          { channel: row.id.split(" ", 1)[0] ?? "", event: "note", data },
        ]),
    ),
};

test("CHG-10: an answer with rows of a table has at most 512 KiB of data, and the next one continues after it", async () => {
  const log = new MemoryChangeLog();
  log.read = async (queries: readonly SlotQuery[]) =>
    queries.flatMap(({ slot, from }) => {
      const channel = channels.find((each) => slotOf(each) === slot) ?? "";
      return [readOf(channel, from.kind === "after" ? from.place : undefined)];
    });
  const pulls = new ChangePulls({ log, tables, logger: quietLogger });
  const common = { filter: parseChannels(channels.join(",")), limit: 1_000, waitMs: 0, caller: "crm" };
  const { signal } = new AbortController();
  const pulled: string[] = [];
  let gaps = 0;
  let from: PullRequest["from"] = { kind: "start" };
  for (let isMore = true; isMore;) {
    const { items, cursor, more } = await pulls.pull({ ...common, from, signal });
    const changes = items.flatMap((item) => (item.kind === "change" ? [item.change] : []));
    pulled.push(...changes.map(({ channel, offset }) => `${channel} ${offset}`));
    gaps += items.length - changes.length;
    expect(changes.reduce((bytes, change) => bytes + Buffer.byteLength(change.data), 0)).toBeLessThanOrEqual(524_288);
    expect(items.length).toBeGreaterThan(0);
    from = { kind: "cursor", cursor };
    isMore = more;
  }
  const all = channels.flatMap((channel) => rowsOf(channel).map(({ row }) => row.id));
  expect(pulled.toSorted()).toEqual(all.filter((id) => !id.endsWith("0")).toSorted());
  // Each row that is gone is in the gap of one answer.
  expect(gaps).toBeGreaterThan(0);
  expect(gaps).toBeLessThanOrEqual(all.length - pulled.length);
});

test("EP-15: rows for an endpoint that is behind are bounded by their data of now, and others are read again", async () => {
  const { promise: fetched, resolve } = Promise.withResolvers<string>();
  const fetches = new RowFetches({ tables, onFetched: resolve });
  const begun = channels.map((channel): BegunRead => ({
    ...{ read: readOf(channel), before: "0-0", name: "endpoint/ep_1/0" },
    held: {
      ...{ lease: { slot: slotOf(channel), fence: 1 }, heldSince: 0 },
      ...{ place: undefined, seen: undefined, queuedUpTo: undefined, gap: undefined },
    },
  }));
  expect(fetches.begin("ep_1", begun, { limit: 200, maxBytes: 524_288 })).toBe(true);
  await fetched;
  const reads = fetches.take("ep_1").map(({ read }) => read);
  expect(reads.map(({ slot, place, changes }) => [slot, place, changes.length])).toEqual([
    [slotOf("account:1"), "1000-8", 8],
  ]);
  expect(channels.map((channel) => fetches.waitsFor("ep_1", slotOf(channel)))).toEqual([false, false]);
});
