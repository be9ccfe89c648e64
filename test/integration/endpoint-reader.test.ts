/** Readers of the change log for endpoints: how much they read, and how they share the slots. */
import { afterEach, expect, test } from "vitest";
import { ChangeReader } from "../../private-api/endpoints/change-reader.ts";
import { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import type { ChangeLog, Change } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import type { NewItem } from "../../shared/queues/contract.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { slotCount, slotOf } from "../../shared/redis/slots.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { plainEndpoint } from "../support/stored-endpoint.ts";

const begun: Service[] = [];
afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

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
      ...{ log: counting, current, errors: quietErrors, logger: quietLogger },
      queues: {
        waitingOfSource: async (source) => queues.waitingOfSource(source),
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
  queued: NewItem[];
  publish(channel: string, count: number): Promise<void>;
  /** @param more instead of the log's own */
  start(more: Partial<ChangeLog>, enqueue?: (item: NewItem) => Promise<void>, waiting?: () => number): Promise<void>;
}

/** One endpoint that exists before everything is published. */
async function rig(): Promise<Rig> {
  const log = new MemoryChangeLog();
  const broker = new MemoryBroker(quietErrors, log);
  const store = new MemoryEndpointStore();
  const queued: NewItem[] = [];
  await store.create(plainEndpoint());
  return {
    log,
    queued,
    publish: async (channel, count) => {
      const retention = { historySize: 1, historySeconds: 60 };
      for (let n = 0; n < count; n++) {
        await broker.publish({ channel, event: "moved", data: String(n), retention, changes: kept });
      }
    },
    start: async (more, enqueue = async () => undefined, waiting = () => 0) => {
      const current = new CurrentEndpoints({ store, errors: quietErrors, logger: quietLogger });
      const known = new Set<string>();
      const reader = new ChangeReader({
        log: new Proxy<ChangeLog>(log, {
          get: (target, name) => {
            const value: unknown = Reflect.get(name in more ? more : target, name);
            return typeof value === "function" ? (value.bind(target) as unknown) : value;
          },
        }),
        queues: {
          waitingOfSource: async () => waiting(),
          enqueue: async (item) => {
            await enqueue(item);
            if (known.has(item.dedupeId ?? "")) return { kind: "duplicate" };
            known.add(item.dedupeId ?? "");
            queued.push(item);
            return { kind: "stored", sequence: "1" };
          },
        },
        ...{ current, readers: async () => 1, errors: quietErrors, logger: quietLogger },
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
