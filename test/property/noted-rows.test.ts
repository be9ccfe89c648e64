/** Rows of SQL sources and other changes leave the log in any order: a reader with a cursor gets every row, and a gap for everything else. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { type ChangeLog, placeBeforeAll } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { changesBetween } from "../../shared/changes/places.ts";
import { RedisChangeLog } from "../../shared/changes/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { connectedRedis } from "../support/connected-redis.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const redis = connectedRedis();
const shard = "crm/CRM_URL";

type Step =
  | { kind: "publish"; isRow: boolean; isOther: boolean; size: number; maxBytes: number }
  | { kind: "read"; limit: number; maxBytes: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("publish" as const),
      isRow: fc.boolean(),
      isOther: fc.nat(3).map((n) => n === 0),
      size: fc.nat(200),
      maxBytes: fc.constantFrom(400, 1_500),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      limit: fc.integer({ min: 1, max: 8 }),
      maxBytes: fc.constantFrom(1, 500, 1 << 20),
    }),
  },
);
const runs = fc.record({
  steps: fc.array(step, { maxLength: 80 }),
  maxRowBytes: fc.constantFrom(700, 1 << 20),
  isFiltered: fc.boolean(),
  areOwnRows: fc.boolean(),
});
type Run = typeof runs extends fc.Arbitrary<infer Value> ? Value : never;

interface Published {
  readonly isRow: boolean;
  readonly isOther: boolean;
  readonly text: string;
}

/** Channels of two namespaces in one slot. */
function newChannels(): { own: string; other: string } {
  const own = `account:${randomUUID()}`;
  for (;;) {
    const other = `room:${randomUUID()}`;
    if (slotOf(other) === slotOf(own)) return { own, other };
  }
}

async function check(
  broker: ChannelBroker,
  log: ChangeLog,
  { steps, maxRowBytes, isFiltered, areOwnRows }: Run,
): Promise<void> {
  const { own, other } = newChannels();
  const slot = slotOf(own);
  const published: Published[] = [];
  const [begun] = await log.read([{ slot, from: { kind: "end" } }], { limit: 1, maxBytes: 1 });
  const first = begun?.place ?? placeBeforeAll;
  let place = first;

  async function readOnce(limit: number, maxBytes: number): Promise<boolean> {
    const channels = isFiltered ? { names: [], prefixes: [own.slice(0, 12)] } : undefined;
    const bounds = { limit, maxBytes, withRows: true, ...(channels && { channels }) };
    const [found] = await log.read([{ slot, from: { kind: "after", place } }], bounds);
    if (!found) throw new Error("the slot was not looked at");
    const passed = published.slice(changesBetween(first, place), changesBetween(first, found.place));
    const expected = passed.filter(({ isOther }) => !isFiltered || !isOther);
    const got = [
      ...found.changes.map(({ offset, channel, data }) => JSON.stringify([channel, offset, data.length])),
      ...(found.rows?.changes ?? []).map(({ offset, channel, bytes }) => JSON.stringify([channel, offset, bytes])),
    ];
    const missing = expected.filter(({ text }) => !got.includes(text));
    expect(got).toEqual(expected.filter((each) => !missing.includes(each)).map(({ text }) => text));
    if (missing.length > 0) expect(found.gap, "changes are missing").toBeDefined();
    if (maxRowBytes > 700) {
      expect(missing.filter(({ isRow }) => isRow)).toEqual([]);
      if (isFiltered && areOwnRows) expect(found.gap, "only rows are asked for").toBeUndefined();
    }
    ({ place } = found);
    await log.saveCursors([{ slot, name: "reader", place }]);
    return place !== found.newest;
  }

  await log.saveCursors([{ slot, name: "reader", place }]);
  for (const each of steps) {
    if (each.kind === "read") {
      await readOnce(each.limit, each.maxBytes);
      continue;
    }
    const { isOther, size, maxBytes } = each;
    const isRow = each.isRow || (areOwnRows && !isOther);
    const channel = isOther ? other : own;
    const data = JSON.stringify("x".repeat(size));
    const { position } = await broker.publish({
      ...{ channel, event: "moved", data, retention: { historySize: 0, historySeconds: 60 } },
      ...(isRow && { row: { shard, id: String(published.length) } }),
      changes: { maxBytes, maxSeconds: 60, unclaimedSeconds: 60, maxRowBytes },
    });
    published.push({ isRow, isOther, text: JSON.stringify([channel, position.offset, data.length]) });
  }
  while (await readOnce(100, 1 << 20));
  await log.saveCursors([{ slot, name: "reader", place: undefined }]);
}

describe("a reader with a cursor gets each row that left the log, and a gap for other changes", () => {
  test("SQL-13: in memory", async () => {
    await fc.assert(
      fc.asyncProperty(runs, async (run) => {
        const log = new MemoryChangeLog();
        await check(new MemoryBroker(quietErrors, log), log, run);
      }),
    );
  });

  test("SQL-13: on Redis", async () => {
    const cells = new Cells(redis.connections);
    const broker = new RedisBroker({ cells, logger: quietLogger });
    await broker.start();
    await fc.assert(
      fc.asyncProperty(runs, async (run) => check(broker, new RedisChangeLog(cells), run)),
      { numRuns: 60 },
    );
    await broker.stop();
  });
});
