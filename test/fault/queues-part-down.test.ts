/** A part of a Redis Cluster does not answer, while a dispatcher works on the queues of all slots. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import type { QueueName } from "../../shared/queues/contract.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { dispatcherOf, numberedItem } from "../support/dispatcher.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { beginSlotMove, command, hashSlotOf, type RedisCluster, startRedisCluster } from "../support/redis-cluster.ts";
import type { RedisServer } from "../support/redis.ts";

let cluster: RedisCluster;
let connections: RedisConnections;
let store: RedisQueueStore;
let dispatcher: Dispatcher;
/** Key and number of every delivery. */
let arrived: string[];
let failures: number;

beforeEach(async () => {
  cluster = await startRedisCluster();
  // The other nodes go on serving their own slots.
  for (const server of cluster.servers) await command(server, "CONFIG", "SET", "cluster-require-full-coverage", "no");
  connections = new RedisConnections({ target: cluster.target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  store = new RedisQueueStore(new Cells(connections));
  arrived = [];
  failures = 0;
  dispatcher = dispatcherOf(store, ({ key, body }) => void arrived.push(`${key} ${body}`), {
    onStoreFailure: (slots) => (failures += slots),
  });
  await dispatcher.start();
});
afterEach(async () => {
  for (const server of cluster.servers) server.signal("SIGCONT");
  await dispatcher.stop();
  await connections.stop();
  await cluster.stop();
});

/** A queue in each slot. */
function queuesOfAllSlots(): QueueName[] {
  const bySlot = new Map<number, QueueName>();
  for (let n = 0; bySlot.size < slotCount; n++) {
    const queue = { service: "documents", tenant: "", key: `k${n}` };
    bySlot.set(slotOfQueue(queue), queue);
  }
  return [...bySlot.values()];
}

/** Whether the server owns the slot of a queue. */
async function ownedBy(server: RedisServer): Promise<(queue: QueueName) => boolean> {
  const ranges = (await command(server, "CLUSTER", "SLOTS")) as [from: number, to: number, owner: [string, number]][];
  const own = ranges.filter(([, , [, port]]) => port === server.port);
  return (queue) => {
    const slot = hashSlotOf(String(slotOfQueue(queue)));
    return own.some(([from, to]) => slot >= from && slot <= to);
  };
}

/** One item after the other, each stored once the one before was delivered. */
async function deliver(queue: QueueName, from: number, count: number): Promise<void> {
  for (let n = from; n < from + count; n++) {
    await store.enqueue(numberedItem(queue, n));
    await eventually(() => arrived.includes(`${queue.key} ${n}`));
  }
}

/** Twenty items of each of twenty queues. */
async function deliverAll(queues: readonly QueueName[], from: number): Promise<void> {
  await Promise.all(queues.slice(0, 20).map(async (queue) => deliver(queue, from, 20)));
}

test("QFAIL-9: while a node of a cluster hangs, items of other slots are delivered as before", async () => {
  const [frozen] = cluster.servers;
  if (!frozen) throw new Error("the cluster has no servers");
  const queues = queuesOfAllSlots();
  const isOwned = await ownedBy(frozen);
  const lost = queues.filter(isOwned);
  const others = queues.filter((queue) => !isOwned(queue));
  await Promise.all(queues.map(async (queue) => deliver(queue, 0, 1)));
  await Promise.all(lost.map(async (queue) => store.enqueue(numberedItem(queue, 1))));
  frozen.signal("SIGSTOP");
  await deliverAll(others, 1);
  frozen.signal("SIGCONT");
  await eventually(() => lost.every(({ key }) => arrived.includes(`${key} 1`)));
});

test("QFAIL-9: while a hash slot moves, items of other slots are delivered as before", async () => {
  const [moving, ...others] = queuesOfAllSlots();
  if (!moving) throw new Error("no queue");
  const move = await beginSlotMove(cluster, hashSlotOf(String(slotOfQueue(moving))));
  const refused = await store.enqueue(numberedItem(moving, 0)).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "broker_unavailable" });
  await deliverAll(others, 0);
  await store.promote();
  await eventually(() => failures > 0);
  await move.moveKeys(await move.keys(1_000));
  await move.end();
  await eventually(async () =>
    store
      .enqueue(numberedItem(moving, 1))
      .then(() => true)
      .catch(() => false),
  );
  await eventually(() => arrived.includes(`${moving.key} 1`));
});

test("QAPI-7: while a node of a cluster hangs, what waits in the other slots is counted", async () => {
  await dispatcher.stop();
  const [frozen] = cluster.servers;
  if (!frozen) throw new Error("the cluster has no servers");
  const queues = queuesOfAllSlots();
  const isOwned = await ownedBy(frozen);
  const lost = queues.filter(isOwned).length;
  await Promise.all(queues.map(async (queue) => store.enqueue(numberedItem(queue, 0))));
  expect(await store.depths()).toMatchObject({ depths: [{ waiting: slotCount }], unreachedSlots: 0 });
  frozen.signal("SIGSTOP");
  expect(await store.depths()).toMatchObject({ depths: [{ waiting: slotCount - lost }], unreachedSlots: lost });
  expect(await store.waitingOfSource("none")).toBe(0);
  // What a stop of an endpoint relies on (CUT-1).
  await expect(store.waitingOfSource("none", "every")).rejects.toMatchObject({ code: "broker_unavailable" });
});
