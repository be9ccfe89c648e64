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
import { slotCount } from "../../shared/redis/slots.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const begun: Service[] = [];
afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

const kept = { maxBytes: 1e9, maxSeconds: 600, unclaimedSeconds: 600 };
const endpoint = (n: number): Parameters<MemoryEndpointStore["create"]>[0] => ({
  ...{ id: `ep_${n}`, url: "http://127.0.0.1:1/", channels: ["board:*"], events: ["*"], mode: "live" },
  ...{ key: "channel", secrets: [], headers: {}, timeoutMs: 1, maxInFlight: 1 },
});

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
  for (let n = 0; n < options.endpoints; n++) await store.create(endpoint(n));
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
