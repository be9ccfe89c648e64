/**
 * Readers of the change log on a Redis that loses its latest writes, as at a failover to a replica that lags: it restarts with a
 * snapshot of an earlier moment.
 */
import { afterEach, expect, test } from "vitest";
import { ChangeReader } from "../../private-api/endpoints/change-reader.ts";
import { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import { endpointService } from "../../shared/endpoints/endpoint.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { LostWrites, type NewItem } from "../../shared/queues/contract.ts";
import { parseContent, slotOfQueue } from "../../shared/queues/keys.ts";
import { everySlot, slotOf } from "../../shared/redis/slots.ts";
import { startTwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { asked } from "../support/redis-failover.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { plainEndpoint } from "../support/stored-endpoint.ts";
import { noTables } from "../support/table-rows.ts";

const begun: { stop(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

interface Rig {
  /** Items that the reader has given to the queues. */
  readonly given: NewItem[];
  /** Until it is opened again, the reader waits with what it queues. */
  closeGate(): () => void;
  /** Resolves once it is stored, however often that fails. */
  publish(n: number): Promise<void>;
}

const endpoint = plainEndpoint();

async function openStores(): Promise<{ redis: RedisServer; stores: Stores }> {
  const redis = await startRedis();
  begun.push(redis);
  const stores = createStores({ kind: "standalone", url: redis.url }, quietLogger);
  await stores.start();
  begun.push(stores);
  return { redis, stores };
}

/** Resolves once it succeeds. */
async function again(work: () => Promise<unknown>): Promise<void> {
  await eventually(async () =>
    work().then(
      () => true,
      () => false,
    ),
  );
}

/** One reader. @param channel of everything that is published */
async function start(stores: Stores, channel: string): Promise<Rig> {
  const { broker, changeLog, endpointStore, queues } = stores;
  await endpointStore.create(endpoint);
  const current = new CurrentEndpoints({ store: endpointStore, errors: quietErrors, logger: quietLogger });
  await current.start();
  begun.push(current);
  const given: NewItem[] = [];
  let gate = Promise.resolve();
  const reader = new ChangeReader({
    tables: noTables,
    ...{ log: changeLog, current, readers: async () => 1, errors: quietErrors, logger: quietLogger },
    queues: {
      waitingOfSource: async (source) => queues.waitingOfSource(source),
      histories: async () => queues.histories(),
      enqueue: async (item, after) => {
        given.push(item);
        await gate;
        return queues.enqueue(item, after);
      },
    },
  });
  await reader.start();
  begun.push(reader);
  const changes = { maxBytes: 1e6, maxSeconds: 600, unclaimedSeconds: 600 };
  const retention = { historySize: 10, historySeconds: 60 };
  return {
    given,
    closeGate: () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    publish: async (n) => {
      const publication = { channel, event: "moved", data: String(n), id: `n${n}`, retention, changes };
      await again(async () => broker.publish(publication));
    },
  };
}

/** Data of the items in a queue of Redis, in order. */
async function queued({ url }: RedisServer, key: string): Promise<number[]> {
  return asked({ url }, async (client) => {
    const [name] = await client.keys(`*:queues2:q:*:${key}`);
    const elements = name === undefined ? [] : await client.lrange(name, 0, -1);
    const contents = elements.filter((_, at) => at % 2 === 1);
    return contents.map((content) => (JSON.parse(parseContent(content).data) as { data: number }).data);
  });
}

/** Whether the place that is stored is after all that was published so far. */
async function isSaved({ changeLog }: Stores): Promise<boolean> {
  const [places, logs] = await Promise.all([changeLog.cursors(everySlot, "endpoints"), changeLog.figures()]);
  return logs.every(({ slot, newest }) => places.some((place) => place.slot === slot && place.place === newest));
}

async function save(redis: RedisServer): Promise<void> {
  await asked(redis, (client) => client.save());
}

test("EP-28: what Redis loses of queues is queued again, in order, and a lost change is a gap", async () => {
  const { redis, stores } = await openStores();
  const { given, closeGate, publish } = await start(stores, "board:1");
  await publish(0);
  await eventually(async () => isSaved(stores));
  const openGate = closeGate();
  await publish(1);
  await publish(2);
  await eventually(() => given.length > 1);
  // The changes are in the log, and nothing of them is queued.
  await save(redis);
  openGate();
  await publish(3);
  await eventually(async () => isSaved(stores));
  expect(await queued(redis, "board:1")).toEqual([0, 1, 2, 3]);
  // Until the gate opens, the reader queues nothing again.
  const openAgain = closeGate();
  await redis.kill();
  await redis.restart();
  expect(await queued(redis, "board:1")).toEqual([0]);
  openAgain();
  await publish(4);
  await eventually(async () => (await queued(redis, "board:1")).includes(4));
  expect(await queued(redis, "board:1")).toEqual([0, 1, 2, 4]);
  expect(await queued(redis, "tidegate.gap")).toHaveLength(1);
});

test("EP-28: a reader does not store its place again in a Redis that has lost what was queued before it", async () => {
  const { redis, stores } = await openStores();
  const { given, closeGate, publish } = await start(stores, "board:1");
  const openGate = closeGate();
  await publish(0);
  await eventually(() => given.length > 0);
  await save(redis);
  openGate();
  await eventually(async () => isSaved(stores));
  await redis.kill();
  await redis.restart();
  // Nothing more is published.
  await eventually(async () => (await queued(redis, "board:1")).length > 0);
});

test("EP-28: a Redis that loses queued changes gets them again from the log in another Redis", async () => {
  const cells = await startTwoCells("128-255");
  begun.push(cells);
  const channel = Array.from({ length: 1_000 }, (_, n) => `board:${n}`).find(
    (name) =>
      slotOf(name) < 128 && slotOfQueue({ service: endpointService(endpoint.id), tenant: "", key: name }) >= 128,
  );
  if (channel === undefined) throw new Error("no channel has its log and its queue in different cells");
  const { publish, closeGate } = await start(await cells.open(), channel);
  const ofChannel = async (): Promise<number[]> => queued(cells.b, channel);
  await publish(0);
  await eventually(async () => (await ofChannel()).length === 1);
  await save(cells.b);
  for (const n of [1, 2]) await publish(n);
  await eventually(async () => (await ofChannel()).length === 3);
  const openGate = closeGate();
  await cells.b.kill();
  await cells.b.restart();
  expect(await ofChannel()).toEqual([0]);
  openGate();
  await publish(3);
  await eventually(async () => (await ofChannel()).includes(3));
  expect(await ofChannel()).toEqual([0, 1, 2, 3]);
});

test("EP-28: an item that follows others is refused by a Redis that may lack them", async () => {
  const { redis, stores } = await openStores();
  const { queues } = stores;
  const item = { queue: { service: "s", tenant: "", key: "k" }, class: "c", head: "{}", data: "{}" };
  const { names } = await queues.histories();
  expect((await queues.enqueue(item, names)).kind).toBe("stored");
  await redis.kill();
  await redis.restart();
  await eventually(async () => (await queues.histories()).isWhole);
  await expect(queues.enqueue(item, names)).rejects.toThrow(LostWrites);
  expect((await queues.enqueue(item)).kind).toBe("stored");
});

test("EP-9: a process forgets changes of endpoints that Redis has lost, also after further changes", async () => {
  const { redis, stores } = await openStores();
  const { endpointStore } = stores;
  const current = new CurrentEndpoints({ store: endpointStore, errors: quietErrors, logger: quietLogger });
  await current.start();
  begun.push(current);
  const created = await endpointStore.create({ ...endpoint, halted: "paused" });
  await endpointStore.create(plainEndpoint({ id: "ep_2" }));
  await save(redis);
  expect(await endpointStore.change(endpoint, created?.version ?? 0)).toBe("stored");
  await eventually(() => current.index.get(endpoint.id)?.endpoint.halted === undefined);
  await redis.kill();
  await redis.restart();
  await again(async () => endpointStore.remove("ep_2"));
  await current.catchUp();
  expect(current.index.get(endpoint.id)?.endpoint.halted).toBe("paused");
  expect(current.index.get("ep_2")).toBeUndefined();
});
