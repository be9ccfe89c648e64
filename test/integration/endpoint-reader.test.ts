/** Readers of the change log for endpoints: how much they read, and how they share the slots. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, expect, test, vi } from "vitest";
import { rowKey, type TableRows } from "../../private-api/changes/table-rows.ts";
import { Behind } from "../../private-api/endpoints/behind.ts";
import { ChangeReader } from "../../private-api/endpoints/change-reader.ts";
import { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import { type Change, type ChangeLog, placeBeforeAll } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import type { NewItem } from "../../shared/queues/contract.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { everySlot, slotCount, slotOf } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { plainEndpoint } from "../support/stored-endpoint.ts";
import { noTables } from "../support/table-rows.ts";

const begun: Service[] = [];
afterEach(stopAll);

async function stopAll(): Promise<void> {
  for (const each of begun.splice(0).toReversed()) await each.stop();
}

const kept = { maxBytes: 1e9, maxSeconds: 600, unclaimedSeconds: 600 };

interface Reading {
  read: readonly Change[];
  queued: readonly NewItem[];
}

async function read(options: { endpoints: number; changes: number; readers?: number }): Promise<Reading> {
  const log = new MemoryChangeLog();
  const broker = new MemoryBroker(quietErrors, log);
  const store = new MemoryEndpointStore();
  const queues = new MemoryQueueStore();
  const changes: Change[] = [];
  const queued: NewItem[] = [];
  const counting = new Proxy<ChangeLog>(log, {
    get: (target, name) => {
      if (name === "read") {
        return async (...args: Parameters<ChangeLog["read"]>) => {
          const reads = await target.read(...args);
          changes.push(...reads.flatMap((each) => each.changes));
          return reads;
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  for (let n = 0; n < options.endpoints; n++) await store.create(plainEndpoint({ id: `ep_${n}` }));
  for (let n = 0; n < (options.readers ?? 1); n++) {
    const current = new CurrentEndpoints({ store, errors: quietErrors, logger: quietLogger });
    const reader = new ChangeReader({
      tables: noTables,
      ...{ log: counting, current, errors: quietErrors, logger: quietLogger },
      queues: {
        waitingOfSource: async (source) => queues.waitingOfSource(source),
        histories: async () => queues.histories(),
        enqueue: async (item) => {
          queued.push(item);
          return queues.enqueue(item);
        },
      },
      readers: async () => options.readers ?? 1,
    });
    for (const each of [current, reader]) {
      await each.start();
      begun.push(each);
    }
  }
  const retention = { historySize: 10, historySeconds: 60 };
  for (let n = 0; n < options.changes; n++) {
    await broker.publish({ channel: `board:${n}`, event: "moved", data: String(n), retention, changes: kept });
  }
  await eventually(() => queued.length >= options.changes * options.endpoints);
  return { read: changes, queued };
}

test("EP-24: each change is read once, for one endpoint and for a hundred", async () => {
  const one = await read({ endpoints: 1, changes: 60 });
  const hundred = await read({ endpoints: 100, changes: 60 });
  for (const { read: changes } of [one, hundred]) expect(changes.length).toBe(60);
  expect([one.queued.length, hundred.queued.length]).toEqual([60, 6_000]);
});

test("EP-24: several processes share the slots, and each change is read by one of them", async () => {
  const { read: changes, queued } = await read({ endpoints: 2, changes: slotCount, readers: 3 });
  expect(new Set(changes.map(({ channel }) => channel)).size).toBe(slotCount);
  expect(changes.length).toBe(slotCount);
  expect(queued.length).toBe(2 * slotCount);
});

interface Rig {
  log: MemoryChangeLog;
  store: MemoryEndpointStore;
  broker: MemoryBroker;
  queued: NewItem[];
  publish(channel: string, count: number): Promise<void>;
  /** @param more instead of the log's own */
  start(
    more: Partial<ChangeLog>,
    enqueue?: (item: NewItem) => Promise<void>,
    waiting?: () => number,
    readers?: () => number,
    nextSpare?: () => undefined,
  ): Promise<void>;
}

/** One endpoint that exists before everything is published. */
async function rig(tables: TableRows = noTables): Promise<Rig> {
  const log = new MemoryChangeLog();
  const broker = new MemoryBroker(quietErrors, log);
  const store = new MemoryEndpointStore();
  const queued: NewItem[] = [];
  await store.create(plainEndpoint());
  return {
    log,
    store,
    broker,
    queued,
    publish: async (channel, count) => {
      const retention = { historySize: 1, historySeconds: 60 };
      for (let n = 0; n < count; n++) {
        await broker.publish({ channel, event: "moved", data: String(n), retention, changes: kept });
      }
    },
    start: async (more, enqueue = async () => undefined, waiting = () => 0, readers = () => 1, nextSpare) => {
      const current = new CurrentEndpoints({ store, errors: quietErrors, logger: quietLogger });
      const known = new Set<string>();
      const reader = new ChangeReader({
        tables,
        log: new Proxy<ChangeLog>(log, {
          get: (target, name) => {
            const value: unknown = Reflect.get(name in more ? more : target, name);
            return typeof value === "function" ? (value.bind(target) as unknown) : value;
          },
        }),
        queues: {
          waitingOfSource: async () => waiting(),
          histories: async () => ({ names: [], isWhole: true }),
          enqueue: async (item) => {
            await enqueue(item);
            if (known.has(item.dedupeId ?? "")) return { kind: "duplicate" };
            known.add(item.dedupeId ?? "");
            queued.push(item);
            return { kind: "stored", sequence: "1" };
          },
        },
        ...{ current, readers: async () => readers(), errors: quietErrors, logger: quietLogger },
        ...(nextSpare && { nextSpare }),
      });
      for (const each of [current, reader]) {
        await each.start();
        begun.push(each);
      }
    },
  };
}

test("EP-25: a channel with very many changes does not keep the changes of other slots back", async () => {
  const { queued, publish, start } = await rig();
  await publish("board:busy", 3_000);
  const quiet = Array.from({ length: 30 }, (_, n) => `board:quiet${n}`);
  for (const channel of quiet.filter((each) => slotOf(each) !== slotOf("board:busy"))) await publish(channel, 1);
  await start({});
  await eventually(() => queued.length >= 3_000 + 20);
  const last = queued.findLastIndex(({ queue }) => queue.key.startsWith("board:quiet"));
  expect(last).toBeLessThan(700);
});

test("EP-25: only a process that reads all slots waits for its own workers", async () => {
  for (const readers of [1, 2]) {
    const { queued, publish, start } = await rig();
    let asked = 0;
    await publish("board:1", 5);
    await start(
      {},
      undefined,
      undefined,
      () => readers,
      () => {
        asked++;
        return undefined;
      },
    );
    // Of two processes this one reads a half of the slots.
    for (let n = 0; n < 40; n++) await publish(`board:${n}`, 1);
    await eventually(() => queued.length >= (readers === 1 ? 45 : 5));
    expect(asked > 0).toBe(readers === 1);
    await stopAll();
  }
});

test("SQL-13: rows that left the log before its reader came are read from their table", async () => {
  const channel = "board:rows";
  const dataOf = (id: string): string => JSON.stringify(`row ${id}`);
  const { log, broker, queued, start } = await rig({
    read: async (rows) => new Map(rows.map((row) => [rowKey(row), { channel, event: "moved", data: dataOf(row.id) }])),
  });
  const slot = slotOf(channel);
  const ids = Array.from({ length: 300 }, (_, n) => String(n + 1));
  await log.saveCursors([{ slot, name: "endpoints", place: placeBeforeAll }]);
  for (const id of ids) {
    await broker.publish({
      ...{ channel, event: "moved", data: dataOf(id), retention: { historySize: 0, historySeconds: 60 } },
      ...{ row: { shard: "crm/URL", id }, changes: { ...kept, maxBytes: 1_000, maxRowBytes: 1e6 } },
    });
  }
  await start({});
  await eventually(() => queued.length >= ids.length);
  expect(queued.map(({ data }) => (JSON.parse(data) as { data: string }).data)).toEqual(ids.map((id) => `row ${id}`));
});

test("EP-15: nothing is lost where a slot changes hands while an endpoint falls behind", async () => {
  const { log, queued, publish, start } = await rig();
  let isLost = false;
  let wasTaken = false;
  let waiting = 999;
  const { promise: taken, resolve: take } = Promise.withResolvers<void>();
  await start(
    {
      extendLeases: async (leases) => {
        if (!isLost || wasTaken) return log.extendLeases(leases);
        wasTaken = true;
        return leases.map(() => false);
      },
      takeLeases: async (...args) => {
        const leases = await log.takeLeases(...args);
        if (wasTaken) setImmediate(take);
        return leases;
      },
    },
    async () => {
      isLost = true;
      await taken;
    },
    () => waiting,
  );
  await publish("board:1", 10);
  await taken;
  waiting = 0;
  await eventually(() => queued.length === 10);
  expect(queued.map(({ data }) => (JSON.parse(data) as { data: number }).data)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("EP-25: slots that are given up before they are read do not keep the reader busy", async () => {
  const { log, start } = await rig();
  let isAway = true;
  let asked = 0;
  const turns = vi.spyOn(Behind.prototype, "isEmpty", "get").mockImplementation(() => {
    // A reader that never pauses would keep the event loop, and the end of this test, waiting.
    if (turns.mock.calls.length > 1_000) throw new Error("the reader does not pause");
    return true;
  });
  vi.useFakeTimers({ toFake: ["setTimeout", "setInterval", "clearTimeout", "clearInterval"] });
  try {
    await start(
      {
        read: async (...args) => {
          if (isAway) throw new TidegateError("broker_unavailable", "away");
          return log.read(...args);
        },
        releaseLeases: async (leases) => {
          isAway = false;
          return log.releaseLeases(leases);
        },
      },
      undefined,
      undefined,
      // A second process comes after the first renewal.
      () => (++asked > 1 ? 2 : 1),
    );
    await vi.advanceTimersByTimeAsync(5_000);
    expect(isAway, "slots were given up").toBe(false);
    expect(turns.mock.calls.length).toBeLessThan(100);
  } finally {
    const stopped = stopAll();
    await vi.advanceTimersByTimeAsync(1_000);
    await stopped;
    vi.useRealTimers();
    turns.mockRestore();
  }
});

test("CUT-1: an endpoint stops behind what a failed step has queued for it", async () => {
  const { log, store, queued, publish, start } = await rig();
  await publish("board:1", 3);
  let isAway = true;
  let calls = 0;
  await start({}, async () => {
    if (++calls > 1 && isAway) throw new TidegateError("broker_unavailable", "away");
  });
  await eventually(() => calls > 1);
  const stored = await store.read("ep_1");
  if (!stored) throw new Error("no endpoint");
  await store.change({ ...stored.endpoint, stopping: "s" }, stored.version);
  isAway = false;
  await eventually(async () => (await log.cursors(everySlot, "stop/ep_1/s")).length === slotCount);
  const [{ place } = { place: "" }] = await log.cursors([slotOf("board:1")], "stop/ep_1/s");
  expect(place).toMatch(/-3$/);
  expect(queued.length).toBe(3);
  await publish("board:1", 2);
  await eventually(async () => (await log.cursors([slotOf("board:1")], "endpoint/ep_1/0")).length === 1);
  expect(queued.length, "after the stop").toBe(3);
});

test("CUT-1: a stop that comes while the reader stores another one is not left for a timer", async () => {
  const { log, store, start } = await rig();
  const stopAs = async (stopping: string): Promise<void> => {
    const stored = await store.read("ep_1");
    if (!stored) throw new Error("no endpoint");
    await store.change({ ...stored.endpoint, stopping }, stored.version);
    // It is known once what follows from it in this turn of the event loop is done.
    await nextTurn();
  };
  vi.useFakeTimers({ toFake: ["setTimeout", "setInterval", "clearTimeout", "clearInterval"] });
  try {
    await start({
      saveCursors: async (changes) => {
        const saved = await log.saveCursors(changes);
        if (changes.some(({ name }) => name === "stop/ep_1/first")) await stopAs("second");
        return saved;
      },
    });
    await stopAs("first");
    const marked = async (): Promise<number> => (await log.cursors(everySlot, "stop/ep_1/second")).length;
    const deadline = performance.now() + 60_000;
    while ((await marked()) < slotCount && performance.now() < deadline) await nextTurn();
    expect(await marked(), "slots").toBe(slotCount);
  } finally {
    vi.useRealTimers();
  }
});
