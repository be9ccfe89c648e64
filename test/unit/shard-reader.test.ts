/** How a shard is read on after its reader crashed, and where its database is not the one from before. */
import fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { ColumnMissing, type Database, type Row, RowsLost } from "../../private-api/sources/contract.ts";
import type { openDatabase } from "../../private-api/sources/open-database.ts";
import { parseProgress } from "../../private-api/sources/progress.ts";
import type { ShardReader } from "../../private-api/sources/shard-reader.ts";
import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import { eventually } from "../support/eventually.ts";
import { newStage, type Stage, startShardReader, stopShardReaders } from "../support/shard-stage.ts";

const rule: SqlSourceRule = {
  driver: "postgres",
  url: "env:URL",
  table: "t",
  channel: "account:{account}",
  event: "e",
  data: "n",
  start: "beginning",
};
const shard = { name: "crm/URL", source: "crm", variable: "URL", rule };

afterEach(async () => {
  vi.restoreAllMocks();
  await stopShardReaders();
});

/** Rows become visible in the given groups. A cursor is the number of groups that were read. */
function databaseOf(groups: readonly (readonly number[])[], timeline = "1"): Database {
  const rowsOf = (group: number): Row[] =>
    (groups[group] ?? []).map((id) => ({ id: String(id), values: { account: String(id % 3), n: String(id) } }));
  return {
    identity: "db",
    timeline,
    begin: async () => "0",
    readNew: async (cursor) => {
      const group = Number(cursor);
      return group < groups.length ? { next: String(group + 1), page: cursor } : { next: cursor };
    },
    readPage: async (page, after) => {
      const rows = rowsOf(Number(page)).filter(({ id }) => Number(id) > Number(after));
      return { rows: rows.slice(0, 3), isLast: rows.length <= 3 };
    },
    readRows: async () => [],
    onNotice: () => undefined,
    close: () => undefined,
  };
}

async function startReader(stage: Stage, database: Database, read = shard): Promise<ShardReader> {
  return startShardReader(stage, read, async () => database);
}

test("SQL-4: readers that crash anywhere publish each row once, and in order of its page", async () => {
  const pages = fc.array(fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 9 }), {
    minLength: 1,
    maxLength: 4,
  });
  const crashes = fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 4 });
  const property = fc.asyncProperty(pages, crashes, async (given, callsUntilCrash) => {
    const stage = newStage();
    const groups = given.map((ids, group) => [...new Set(ids)].toSorted((a, b) => a - b).map((id) => id + group * 100));
    for (const calls of callsUntilCrash) {
      stage.failAfter.calls = calls;
      const reader = await startReader(stage, databaseOf(groups));
      await eventually(() => stage.failAfter.calls < 0 || stage.published.length === groups.flat().length);
      await reader.stop();
    }
    stage.failAfter.calls = Infinity;
    const last = await startReader(stage, databaseOf(groups));
    await eventually(() => stage.published.length >= groups.flat().length);
    await last.stop();
    expect(stage.published.toSorted()).toEqual(groups.flat().map(String).toSorted());
    for (const account of ["0", "1", "2"]) {
      const ofAccount = (id: string | number): boolean => String(Number(id) % 3) === account;
      expect(stage.published.filter(ofAccount)).toEqual(groups.flat().filter(ofAccount).map(String));
    }
  });
  await fc.assert(property, { numRuns: 30 });
});

test("SQL-4: the present rule continues a page whose column is gone, and the page is stored so first", async () => {
  const stage = newStage();
  const columns = new Set(["account", "n"]);
  const open: typeof openDatabase = async (_, options) => {
    const missing = options.columns.find((column) => !columns.has(column));
    if (missing !== undefined) throw new ColumnMissing(`no column ${missing}`);
    return databaseOf([[1, 2]]);
  };
  const renamed = { ...shard, rule: { ...rule, channel: "account:{renamed}" } };
  const mapping = { channel: "account:{gone}", event: "e", data: "n" };
  const begun = { number: "1".padStart(26, "0"), page: "0", next: "1", after: "1", mapping };
  const stored = { identity: "db", timeline: "1", cursor: "0", begun, published: 1, skipped: 0 };
  for (const lease of await stage.store.takeLeases([shard.name], "one")) {
    await stage.store.save(lease, { progress: JSON.stringify(stored) });
  }
  const refused = await startShardReader(stage, renamed, open);
  await eventually(() => refused.status?.state === "refused");
  expect(refused.status?.lastError?.message).toBe("no column renamed");
  await refused.stop();
  // The position is stored, and the publication of the row fails.
  stage.failAfter.calls = 2;
  const failing = await startShardReader(stage, shard, open);
  await eventually(() => stage.failAfter.calls < 0);
  await failing.stop();
  const { progress = "" } = await stage.store.read(shard.name);
  expect(parseProgress(progress)).toMatchObject({ begun: { mapping: { channel: rule.channel } } });
  stage.failAfter.calls = Infinity;
  await startShardReader(stage, shard, open);
  await eventually(() => stage.published.length === 1);
  expect(stage.published).toEqual(["2"]);
});

test("SQL-11: a database that was restored or failed over is refused", async () => {
  const stage = newStage();
  const before = await startReader(stage, databaseOf([[1]], "1"));
  await eventually(() => stage.published.length === 1);
  await before.stop();
  const reader = await startReader(stage, databaseOf([[1], [2]], "2"));
  await eventually(() => reader.status?.state === "refused");
  expect(reader.status?.lastError?.message).toContain("failover: continue");
  expect(stage.published).toEqual(["1"]);
});

test("SQL-16: a position that an earlier build stored is read on from the same server only", async () => {
  const stage = newStage();
  const stored = { identity: "mysql 7 crm t", timeline: "", cursor: "1", published: 1, skipped: 0 };
  for (const lease of await stage.store.takeLeases([shard.name], "one")) {
    await stage.store.save(lease, { progress: JSON.stringify(stored) });
  }
  async function refusalBy(timeline: string, groups: number[][]): Promise<string | undefined> {
    const database = { ...databaseOf(groups, timeline), identity: "mysql crm t" };
    const reader = await startReader(stage, database);
    await eventually(() => reader.status !== undefined);
    await reader.stop();
    return reader.status?.lastError?.message;
  }
  expect(await refusalBy("8", [[1], [2]])).toContain("another database or table");
  expect(await refusalBy("7", [[1]])).toBeUndefined();
  expect(await refusalBy("8", [[1], [2]])).toContain("has failed over");
  expect(await refusalBy("7", [[1], [2]])).toBeUndefined();
  expect(stage.published).toEqual(["2"]);
});

test("SQL-16: a database that lost rows stays refused once its next ids no longer show it", async () => {
  const stage = newStage();
  const before = await startReader(stage, databaseOf([[1]], "1"));
  await eventually(() => stage.published.length === 1);
  await before.stop();
  const continued = { ...shard, rule: { ...rule, failover: "continue" as const } };
  const lossy = {
    ...databaseOf([[1]], "2"),
    readNew: async () => {
      throw new RowsLost("rows are gone");
    },
  };
  const refused = await startReader(stage, lossy, continued);
  await eventually(() => refused.status?.state === "refused");
  await refused.stop();
  const again = await startReader(stage, databaseOf([[1], [2]], "2"), continued);
  await eventually(() => again.status !== undefined);
  expect(again.status).toMatchObject({ state: "refused", lastError: { message: "rows are gone" } });
  await again.stop();
  // The primary before it has all rows. Another name begins again.
  await startReader(stage, databaseOf([[1], [2]], "1"));
  await eventually(() => stage.published.length === 2);
  await startReader(stage, databaseOf([[1], [2]], "2"), { ...continued, name: "renamed/URL" });
  await eventually(() => stage.published.length === 4);
  expect(stage.published).toEqual(["1", "2", "1", "2"]);
});

test("SQL-15: rows that the database announces are read once, and not looked for in between", async () => {
  const stage = newStage();
  const rows: number[][] = [];
  let reads = 0;
  let notice = (): void => undefined;
  const database: Database = {
    ...databaseOf(rows),
    readNew: async (cursor) => {
      reads++;
      const group = Number(cursor);
      const ids = rows[group];
      if (!ids) return { next: cursor };
      const values = { account: "1", n: String(ids[0]) };
      return { next: String(group + 1), page: cursor, rows: [{ id: String(ids[0]), values }] };
    },
    onNotice: (listener) => {
      notice = listener;
    },
  };
  await startReader(stage, database, { ...shard, rule: { ...rule, notify: "written" } });
  await eventually(() => reads > 0);
  const announce = async (id: number): Promise<void> => {
    rows.push([id]);
    notice();
    await eventually(() => stage.published.length === id);
  };
  await announce(1);
  // Its clock is a fast one before the first notice, and reads every two seconds afterwards.
  const [before, from] = [reads, performance.now()];
  for (let id = 2; id <= 21; id++) await announce(id);
  const byClock = 1 + (performance.now() - from) / 2_000;
  expect(reads - before).toBeLessThanOrEqual(20 + byClock);
});

test("SQL-9: a shard has no state before its first read has ended: rows of that time may not be published", async () => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const database: Database = { ...databaseOf([[1]]), begin: async () => begun.then(() => "0") };
  const reader = await startReader(newStage(), database);
  await new Promise(setImmediate);
  expect(reader.status).toBeUndefined();
  begin();
  await eventually(() => reader.status?.state === "live");
});

test("SQL-9: a reader continues the lag of the one before it, until it has caught up", async () => {
  const stage = newStage();
  const status = { state: "refused", lagMs: 5_000, at: Date.now() - 60_000 };
  for (const lease of await stage.store.takeLeases([shard.name], "one")) {
    await stage.store.save(lease, { status: JSON.stringify(status) });
  }
  let isAway = true;
  const reader = await startShardReader(stage, shard, async () => {
    if (isAway) throw new Error("away");
    return databaseOf([[1]]);
  });
  await eventually(() => reader.status !== undefined);
  expect(reader.status?.lagMs).toBeGreaterThanOrEqual(65_000);
  isAway = false;
  await eventually(() => reader.status?.lagMs === 0);
  expect(stage.published).toEqual(["1"]);
});

test.each([
  { isPart: false, lagMs: 2_000 },
  { isPart: true, lagMs: 6_000 },
])(
  "SQL-9: rows that each read finds are no lag, unless it finds a part of them: $isPart",
  async ({ isPart, lagMs }) => {
    let nowMs = 0;
    vi.spyOn(performance, "now").mockImplementation(() => nowMs);
    const groups = [[1], [2], [3], [4], [5]];
    const database = databaseOf(groups);
    const lastRead = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const reader = await startReader(newStage(), {
      ...database,
      readNew: async (cursor) => {
        // A second for each read: the page of the fifth has what was visible after four.
        nowMs += 1_000;
        if (Number(cursor) === groups.length) {
          lastRead.resolve();
          await answer.promise;
        }
        return { ...(await database.readNew(cursor)), ...(isPart && { isPart }) };
      },
    });
    await lastRead.promise;
    const { status } = reader;
    // Before the assertion: the reader stops once it has the answer.
    answer.resolve();
    expect(status?.lagMs).toBe(lagMs);
  },
);

test("SQL-9: rows that may be held back are a lag, also where no read finds a page", async () => {
  let nowMs = 0;
  vi.spyOn(performance, "now").mockImplementation(() => nowMs);
  const thirdRead = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  const reader = await startReader(newStage(), {
    ...databaseOf([]),
    readNew: async (next) => {
      nowMs += 1_000;
      if (nowMs === 3_000) {
        thirdRead.resolve();
        await answer.promise;
      }
      return { next, isPart: true };
    },
  });
  await thirdRead.promise;
  const { status } = reader;
  answer.resolve();
  expect(status?.lagMs).toBe(3_000);
});
