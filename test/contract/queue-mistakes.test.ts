/** Known mistakes of queues on Redis, each with a test that fails where it is made. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import type { Claimed, ReadyQueues } from "../../shared/queues/contract.ts";
import { queueText, slotOfQueue } from "../../shared/queues/keys.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { primaryCommands } from "../../shared/redis/setup.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let connections: RedisConnections;
let store: RedisQueueStore;

beforeAll(async () => {
  redis = await startRedis();
  connections = new RedisConnections({
    target: { kind: "standalone", url: redis.url },
    errors: quietErrors,
    logger: quietLogger,
  });
  await connections.start();
  store = new RedisQueueStore(new Cells(connections));
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(async () => {
  await connections.stop();
  await redis.stop();
});

let services = 0;
function newQueue(key = "k"): { service: string; tenant: string; key: string } {
  return { service: `s${++services}`, tenant: "", key };
}

function queuesOfSlot(slot: number, count: number): ReturnType<typeof newQueue>[] {
  const { service } = newQueue();
  const queues: ReturnType<typeof newQueue>[] = [];
  for (let n = 0; queues.length < count; n++) {
    const queue = { service, tenant: "", key: String(n) };
    if (slotOfQueue(queue) === slot) queues.push(queue);
  }
  return queues;
}

async function enqueue(queue: ReturnType<typeof newQueue>, data: unknown = 1): Promise<void> {
  await store.enqueue({ queue, class: "messages", head: "{}", data: JSON.stringify(data) });
}

async function claim(
  queue: ReturnType<typeof newQueue>,
  {
    attempt = "first",
    maxQueues = 1,
    from = store,
  }: Partial<ReadyQueues> & { maxQueues?: number; from?: RedisQueueStore } = {},
): Promise<readonly Claimed[]> {
  const { service, tenant } = queue;
  const lane = { slot: slotOfQueue(queue), class: "messages", service, tenant, attempt };
  const [reply] = from.claim([{ ...lane, maxQueues, maxItems: 1 }]);
  return (await reply)?.claimed ?? [];
}

async function claimOne(
  queue: ReturnType<typeof newQueue>,
  attempt: ReadyQueues["attempt"] = "first",
): Promise<Claimed> {
  const [claimed] = await claim(queue, { attempt });
  if (!claimed) throw new Error("nothing is ready");
  return claimed;
}

test("QUE-13: every change of a queue is one script call, with no command beside it", async () => {
  const [queue, failed] = [newQueue(), newQueue()];
  const die = async (name: typeof queue): Promise<void> => {
    const { lease } = await claimOne(name);
    await store.settle(lease, { kind: "dead", done: 0, failure: "{}" });
  };
  for (const data of [1, 2]) await enqueue(failed, data);
  for (let dead = 0; dead < 2; dead++) await die(failed);
  const { letters } = await store.deadLetters({ limit: 1_000 });
  const [first = "", second = ""] = letters.filter(({ queue: { key } }) => key === failed.key).map(({ id }) => id);
  const client = new Redis(redis.url);
  const monitor = await client.monitor();
  const plain: string[] = [];
  monitor.on("monitor", (_time: string, [command = ""]: string[], source: string) => {
    if (source !== "lua") plain.push(command.toLowerCase());
  });
  for (const data of [1, 2, 3]) await enqueue(queue, data);
  const { lease } = await claimOne(queue);
  await Promise.all(store.extend([lease]));
  await store.settle(lease, { kind: "retry", done: 0, attempts: 1, delayMs: 0 });
  await store.promote([lease.slot]);
  const again = await claimOne(queue, "retry");
  await store.settle(again.lease, { kind: "done", done: 1 });
  const parked = await claimOne(queue);
  await store.settle(parked.lease, { kind: "park", done: 0 });
  await store.release(queue);
  await die(queue);
  expect(await store.retryDeadLetter(first)).toBe(true);
  expect(await store.removeDeadLetter(second)).toBe(true);
  // The last command that the monitor shows.
  await client.get("end");
  await eventually(() => plain.includes("get"));
  monitor.disconnect();
  client.disconnect();
  const others = plain.filter((command) => !/^(evalsha|eval|script|ping|info|monitor|client|get)$/.test(command));
  expect(others).toEqual([]);
  expect(plain.filter((command) => command.startsWith("eval")).length).toBeGreaterThanOrEqual(16);
});

test("QUE-14: a process whose clock is an hour off claims, dates, delays and extends like the others", async () => {
  const now = Date.now();
  for (const offMs of [3_600_000, -3_600_000]) {
    vi.spyOn(Date, "now").mockImplementation(() => now + offMs);
    const [leased, delayed] = [newQueue(), newQueue()];
    await enqueue(leased);
    await enqueue(delayed);
    const held = await claimOne(leased);
    const { lease } = await claimOne(delayed);
    expect(Math.abs(held.claimedAt - now)).toBeLessThan(1_800_000);
    await store.settle(lease, { kind: "retry", done: 0, attempts: 1, delayMs: 60_000 });
    const { nextMs: waitMs } = await store.promote([slotOfQueue(leased), slotOfQueue(delayed)]);
    expect(waitMs).toBeGreaterThan(0);
    expect(waitMs).toBeLessThanOrEqual(10_000);
    expect(await claim(leased, { attempt: "retry" })).toEqual([]);
    expect(await claim(delayed, { attempt: "retry" })).toEqual([]);
    expect(await Promise.all(store.extend([held.lease]))).toEqual([true]);
  }
});

test("QUE-15: one call makes at most a hundred expired queues of a slot ready, and says that more wait", async () => {
  const queues = queuesOfSlot(7, 250);
  await Promise.all(queues.map(async (queue) => enqueue(queue)));
  const [first] = queues;
  if (!first) throw new Error("250 queues");
  const shortLeases = new RedisQueueStore(new Cells(connections), { leaseMs: 0 });
  expect(await claim(first, { maxQueues: 1_000, from: shortLeases })).toHaveLength(250);
  const made: number[] = [];
  for (let more: number | undefined = 0; more === 0 && made.length < 9;) {
    more = (await store.promote([7])).nextMs;
    made.push((await claim(first, { attempt: "retry", maxQueues: 1_000 })).length);
  }
  expect(made.slice(0, 3)).toEqual([100, 100, 50]);
});

test("QUE-15: a claim takes about 4 MiB of all queues, also where their items are the same", async () => {
  const queues = queuesOfSlot(9, 100);
  const data = JSON.stringify("x".repeat(64 * 1024));
  await Promise.all(queues.map(async (queue) => store.enqueue({ queue, class: "messages", head: "{}", data })));
  const claimed: number[] = [];
  for (const queue of queues.slice(0, 2)) claimed.push((await claim(queue, { maxQueues: 1_000 })).length);
  expect(claimed).toEqual([64, 36]);
});

test("KEY-3: queues that an earlier build left in another form are neither read nor changed", async () => {
  const queue = newQueue();
  const slot = slotOfQueue(queue);
  const [earlier, lane, name] = [`tidegate:{${slot}}:queues:`, `messages:${queue.service}:f:`, queueText(queue)];
  const leftKeys = [`q:${name}`, `r:${lane}`, "lanes", "leases"].map((key) => earlier + key);
  const [items = "", ready = "", lanes = "", leases = ""] = leftKeys;
  await connections.run("rpush", items, "1 messages {}\nearlier");
  await connections.run("rpush", ready, `0 0 ${name}`);
  await connections.run("sadd", lanes, lane);
  await connections.run("zadd", leases, 1, `1 messages 1 0 0 ${name}`);
  const dump = async (): Promise<unknown> => Promise.all(leftKeys.map(async (key) => connections.run("dump", key)));
  const before = await dump();
  await enqueue(queue, "new");
  expect(await store.promote([slot])).toMatchObject({ unreached: [] });
  const { items: claimed, lease } = await claimOne(queue);
  expect(claimed.map(({ data }) => data)).toEqual(['"new"']);
  expect(await store.settle(lease, { kind: "done", done: 1 })).toBe(true);
  expect(await dump()).toEqual(before);
});

test("QUE-15: nothing trims what waits", async () => {
  const queue = newQueue();
  const count = 20_000;
  await Promise.all(Array.from({ length: count }, async (_, n) => enqueue(queue, n)));
  expect(await connections.run<number>("llen", `tidegate:{${slotOfQueue(queue)}}:queues2:q:${queue.service}::k`)).toBe(
    2 * count,
  );
  expect((await claimOne(queue)).items[0].data).toBe("0");
});

test("QUE-16: queues of one tenant are spread over all slots, whatever the data of their items", () => {
  const { service } = newQueue();
  const slots = new Set(
    Array.from({ length: slotCount * 16 }, (_, n) => slotOfQueue({ service, tenant: "acme", key: `doc-${n}` })),
  );
  expect(slots.size).toBe(slotCount);
});

test("QUE-10: no command blocks a connection that others share", () => {
  const blocking = /^(b[lrz]|xread|wait|subscribe$)/;
  expect([...primaryCommands].filter((command) => blocking.test(command))).toEqual([]);
});
