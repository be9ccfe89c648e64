/** Tenants whose queues are kept in one cell. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Delivery } from "../../private-api/dispatch/delivery.ts";
import type { CellMover } from "../../private-api/cells/mover.ts";
import { PinSettler } from "../../private-api/cells/pin-settler.ts";
import { pinTenant, unpinTenant, withoutOldest } from "../../private-api/cells/plan-pins.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { changeMap } from "../../shared/cells/change-map.ts";
import type { Stores } from "../../shared/program/stores.ts";
import { dedupeMs, type QueueName } from "../../shared/queues/contract.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import type { TenantPin } from "../../shared/redis/cell-map.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { moveSlots, startMover, startTwoCells, type TwoCells } from "../support/cells.ts";
import { dispatcherOf, numberedItem } from "../support/dispatcher.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

let twoCells: TwoCells;
let mine: Stores;
let other: Stores;
let mover: CellMover;

beforeAll(async () => {
  twoCells = await startTwoCells("128-255");
  mine = await twoCells.open();
  other = await twoCells.open();
  mover = await startMover(other);
});
afterAll(async () => {
  await mover.stop();
  await twoCells.stop();
});

async function pin(tenant: string, cell: string): Promise<void> {
  await changeMap(mine.cellMaps, (map) => pinTenant(map, { tenant, cell }, Date.now()));
}

async function unpin(tenant: string, cell: string): Promise<void> {
  await changeMap(mine.cellMaps, (map) => unpinTenant(map, { tenant, cell }, Date.now()));
}

/** The places of a tenant that are empty are removed at once, and not after the time for which ids are known. */
async function settled(tenant: string): Promise<void> {
  const { cells, cellMaps } = mine;
  if (!cells) throw new Error("there are no cells");
  const settler = new PinSettler({ cells, maps: cellMaps, errors: quietErrors, logger: quietLogger, afterMs: 0 });
  await settler.start();
  await eventually(async () => ((await cellMaps.refresh()).pins.get(tenant)?.length ?? 1) === 1);
  await settler.stop();
}

/** The map of cells, and how often it was looked at. */
function watched(maps: CellMaps): { maps: CellMaps; looks: () => number } {
  let looks = 0;
  const memberOf = (target: CellMaps, name: keyof CellMaps): unknown => {
    if (name === "map") looks++;
    const member = target[name];
    return typeof member === "function" ? member.bind(target) : member;
  };
  return {
    maps: new Proxy(maps, { get: (target, name) => memberOf(target, name as keyof CellMaps) }),
    looks: () => looks,
  };
}

/** Names of the queues of a tenant that a cell has. */
async function queuesAt(cell: string, tenant: string): Promise<string[]> {
  const [, keys] = (await mine.cells?.all.get(cell)?.run<[string, string[]]>("scan", "0", "COUNT", 100_000)) ?? [
    "",
    [],
  ];
  return keys.filter((key) => key.includes(`:queues2:q:documents:${tenant}:`));
}

function queueOf(tenant: string, key: string): QueueName {
  return { service: "documents", tenant, key };
}

test("CELL-16: a tenant's queues stay in order while its pin is set, changed and removed under load", async () => {
  const delivered: { key: string; n: number; sequence: string; fence: string; slot: number }[] = [];
  const work = async ({ body, sequence, fence, slot }: Delivery): Promise<void> => {
    const [key = "", n = ""] = (JSON.parse(body) as string).split(" ");
    delivered.push({ key, n: Number(n), sequence, fence, slot });
    // Services differ in how long they take.
    for (let turns = Math.random() * 5; turns > 0; turns--) await nextTurn();
  };
  const dispatchers = [mine, other].map(({ queues }) => dispatcherOf(queues, work));
  for (const dispatcher of dispatchers) await dispatcher.start();
  const keys = Array.from({ length: 30 }, (_, at) => `key-${at}`);
  let stop = false;
  let stored = 0;
  const storing = [mine, other].map(async ({ queues }, writer) => {
    // One writer for each key, which does not wait for its items.
    const counts = new Map<string, number>();
    while (!stop) {
      const items = keys
        .filter((_, at) => at % 2 === writer)
        .map(async (key) => {
          const n = (counts.get(key) ?? 0) + 1;
          counts.set(key, n);
          await queues.enqueue({ ...numberedItem(queueOf("acme", key), n), data: `"${key} ${n}"` });
          stored++;
        });
      await Promise.all(items);
      // Few enough that each queue is empty now and then: only then it moves.
      await eventually(() => stored - delivered.length < 10);
    }
  });
  const more = async (): Promise<void> => {
    const before = delivered.length;
    await eventually(() => delivered.length > before + 200);
  };
  await more();
  await pin("acme", "b");
  await more();
  await pin("acme", "a");
  await more();
  await settled("acme");
  await more();
  await moveSlots(
    mine,
    "b",
    mine.cellMaps.map.owners.flatMap((owner, slot) => (slot >= slotCount && owner === "a" ? [slot] : [])),
  );
  await more();
  await unpin("acme", "b");
  await more();
  await settled("acme");
  await more();
  stop = true;
  await Promise.all(storing);
  await eventually(() => delivered.length >= stored);
  for (const dispatcher of dispatchers) await dispatcher.stop();
  expect(mine.cellMaps.map.pins.size).toBe(0);
  expect(new Set(delivered.map(({ slot }) => Math.max(slot, slotCount - 1))).size).toBe(3);
  for (const key of keys) {
    const own = delivered.filter((item) => item.key === key);
    expect(own.map(({ n }) => n)).toEqual(Array.from({ length: own.length }, (_, at) => at + 1));
    expect(own.map(({ sequence }) => sequence)).toEqual(own.map(({ sequence }) => sequence).toSorted());
    expect(own.map(({ fence }) => fence)).toEqual(own.map(({ fence }) => fence).toSorted());
  }
  expect(delivered).toHaveLength(stored);
});

test("CELL-16: a key goes to the cell of the pin once its queue is empty, and other keys at once", async () => {
  const [busy, idle] = [queueOf("globex", "busy"), queueOf("globex", "idle")];
  // Both in cell a.
  for (const queue of [busy, idle]) await moveSlots(mine, "a", [slotOfQueue(queue)]);
  await mine.queues.enqueue(numberedItem(busy, 1));
  await pin("globex", "b");
  await mine.queues.enqueue(numberedItem(busy, 2));
  await mine.queues.enqueue(numberedItem(idle, 1));
  expect(await queuesAt("a", "globex")).toHaveLength(1);
  expect(await queuesAt("b", "globex")).toEqual([expect.stringContaining("globex:idle")]);
  const seen: string[] = [];
  const dispatcher = dispatcherOf(other.queues, ({ body, key }) => {
    seen.push(`${key} ${body}`);
  });
  await dispatcher.start();
  await eventually(() => seen.length === 3);
  await eventually(async () => (await queuesAt("a", "globex")).length === 0);
  await dispatcher.stop();
  const stored = await mine.queues.enqueue({ ...numberedItem(busy, 3), takesLease: true });
  expect(await queuesAt("b", "globex")).toEqual([expect.stringContaining("globex:busy")]);
  // Its lease is where the queue is.
  const lease = stored.kind === "stored" ? stored.claimed?.lease : undefined;
  expect(lease && (await other.queues.settle(lease, { kind: "done", done: 1 }))).toBe(true);
  expect(await queuesAt("b", "globex")).toEqual([]);
  expect(seen.filter((each) => each.startsWith("busy"))).toEqual(["busy 1", "busy 2"]);
});

test("CELL-16: an item that is on its way between places passes none by where the oldest one is forgotten meanwhile", async () => {
  const queue = queueOf("hooli", "k");
  await moveSlots(mine, "a", [slotOfQueue(queue)]);
  await pin("hooli", "b");
  await mine.queues.enqueue(numberedItem(queue, 1));
  await pin("hooli", "a");
  const pinned = await mine.cellMaps.refresh();
  // A process that waits for the answer of the oldest place.
  const { promise: asked, resolve: markAsked } = Promise.withResolvers<void>();
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  const [a, b] = ["a", "b"].map((name) => mine.cells?.all.get(name));
  if (!a || !b) throw new Error("there are no two cells");
  const late = new Proxy(a, {
    get: (_, name) => {
      const member: unknown = Reflect.get(a, name, a);
      if (typeof member !== "function") return member;
      if (name !== "run") return member.bind(a) as unknown;
      return async (...values: Parameters<typeof a.run>) => {
        const reply = await a.run(...values);
        markAsked();
        await answered;
        return reply;
      };
    },
  });
  const slow = new Cells(
    new Map([
      ["a", late],
      ["b", b],
    ]),
    quietLogger,
  );
  slow.use(pinned);
  const second = new RedisQueueStore(slow).enqueue(numberedItem(queue, 2));
  await asked;
  // As PinSettler does: the tenant has nothing in the hash slots.
  slow.use(await changeMap(mine.cellMaps, (map) => withoutOldest(map, "hooli", map.pins.get("hooli") as TenantPin)));
  answer();
  expect(await second).toMatchObject({ kind: "stored" });
  await slow.stop();
  expect(await queuesAt("a", "hooli")).toEqual([]);
  expect(await b.run("llen", (await queuesAt("b", "hooli"))[0] ?? "")).toBe(2 * 2);
});

test("CELL-17: a process with an older map adds nothing where the tenant's queues were", async () => {
  const queue = queueOf("initech", "k");
  await moveSlots(mine, "a", [slotOfQueue(queue)]);
  // A process that was paused: it hears of no new map.
  const stale = new Cells(mine.cells?.all ?? new Map(), quietLogger);
  stale.use(mine.cellMaps.map);
  stale.refreshWith(async () => stale.use(await mine.cellMaps.refresh()));
  const staleQueues = new RedisQueueStore(stale);
  // The cell has a fence, which this process passes.
  expect(await staleQueues.wasStored({ queue, dedupeId: "none" })).toBe(false);
  await pin("initech", "b");
  await mine.queues.enqueue(numberedItem(queue, 1));
  const [second, third] = await Promise.all([2, 3].map(async (n) => staleQueues.enqueue(numberedItem(queue, n))));
  await stale.stop();
  expect(await queuesAt("a", "initech")).toEqual([]);
  expect(await queuesAt("b", "initech")).toHaveLength(1);
  expect(second).toMatchObject({ kind: "stored" });
  expect((second as { sequence: string }).sequence < (third as { sequence: string }).sequence).toBe(true);
});

test("CELL-18: ids and dead letters from before a pin are known after it", async () => {
  const queue = queueOf("umbrella", "k");
  await moveSlots(mine, "a", [slotOfQueue(queue)]);
  const lane = { class: "messages", service: "documents", attempt: "first", tenant: "umbrella" } as const;
  const claim = async (slot: number) => {
    const [reply] = await Promise.all(mine.queues.claim([{ ...lane, slot, maxQueues: 1, maxItems: 1 }]));
    return reply?.claimed[0];
  };
  expect(await mine.queues.enqueue({ ...numberedItem(queue, 1), dedupeId: "one" })).toMatchObject({ kind: "stored" });
  const failed = await claim(slotOfQueue(queue));
  if (!failed) throw new Error("nothing was claimed");
  await mine.queues.settle(failed.lease, { kind: "dead", done: 0, failure: "{}" });
  await pin("umbrella", "b");
  const again = { ...numberedItem(queue, 1), dedupeId: "one" };
  expect(await mine.queues.enqueue(again)).toEqual({ kind: "duplicate" });
  expect(await mine.queues.wasStored(again)).toBe(true);
  const letters = (await mine.queues.deadLetters({ limit: 10 })).letters.filter(
    (letter) => letter.queue.tenant === "umbrella",
  );
  expect(letters).toHaveLength(1);
  expect(await mine.queues.retryDeadLetter(letters[0]?.id ?? "")).toBe(true);
  expect(await mine.queues.retryDeadLetter(letters[0]?.id ?? "")).toBe(false);
  expect(await queuesAt("b", "umbrella")).toHaveLength(1);
  const retried = await claim(mine.cellMaps.map.owners.indexOf("b", slotCount));
  expect(retried?.items[0].data).toBe("1");
  expect(retried && retried.items[0].sequence > failed.items[0].sequence).toBe(true);
  expect(retried && retried.lease.fence > failed.lease.fence).toBe(true);
});

test("QUE-6: a dead letter is retried once by processes of which only one knows of the pin", async () => {
  const queue = queueOf("wayne", "k");
  const slot = slotOfQueue(queue);
  await moveSlots(mine, "a", [slot]);
  const [a, b] = ["a", "b"].map((name) => mine.cells?.all.get(name));
  if (!a || !b) throw new Error("there are no two cells");
  const lane = { class: "messages", service: "documents", attempt: "first", tenant: "wayne", slot } as const;
  for (const n of [1, 2]) {
    await mine.queues.enqueue(numberedItem(queue, n));
    const [reply] = await Promise.all(mine.queues.claim([{ ...lane, maxQueues: 1, maxItems: 1 }]));
    const [failed] = reply?.claimed ?? [];
    if (!failed) throw new Error("nothing was claimed");
    await mine.queues.settle(failed.lease, { kind: "dead", done: 0, failure: "{}" });
  }
  // The queue stays where it is.
  await mine.queues.enqueue(numberedItem(queue, 3));
  const letters = (await mine.queues.deadLetters({ limit: 10 })).letters.filter(
    (letter) => letter.queue.tenant === "wayne",
  );
  const [first = "", second = ""] = letters.map(({ id }) => id);
  const { owners, moves, version } = mine.cellMaps.map;
  const unaware = new Cells(mine.cells?.all ?? new Map(), quietLogger);
  unaware.use({ version, owners, moves, pins: new Map() });
  const unawareQueues = new RedisQueueStore(unaware);
  await pin("wayne", "b");
  // A process that knows of it, and that is frozen before it runs a command.
  let frozenBefore = "";
  let meanwhile = async (): Promise<unknown> => undefined;
  const slow = new Proxy(a, {
    get: (_, name) => {
      const member: unknown = Reflect.get(a, name, a);
      if (typeof member !== "function") return member;
      if (name !== "run") return member.bind(a) as unknown;
      return async (...values: Parameters<typeof a.run>) => {
        const [command] = values;
        if (typeof command !== "string" && command.name.startsWith(frozenBefore)) await meanwhile();
        return a.run(...values);
      };
    },
  });
  const aware = new Cells(
    new Map([
      ["a", slow],
      ["b", b],
    ]),
    quietLogger,
  );
  aware.use(mine.cellMaps.map);
  const awareQueues = new RedisQueueStore(aware);
  const outcomes: unknown[] = [];
  for (const [id, command] of [
    [first, "queues/remove-dead.lua"],
    [second, "queues/enqueue.lua"],
  ] as const) {
    frozenBefore = command;
    meanwhile = async () => outcomes.push(await unawareQueues.retryDeadLetter(id));
    await awareQueues.retryDeadLetter(id);
  }
  await Promise.all([unaware.stop(), aware.stop()]);
  expect(outcomes).toEqual([true, true]);
  const [reply] = await Promise.all(mine.queues.claim([{ ...lane, maxQueues: 1, maxItems: 9 }]));
  expect(reply?.claimed[0]?.items.map(({ data }) => data)).toEqual(["3", "1", "2"]);
});

test("CELL-18: ids from before a pin are kept for their time, however far the clocks of private APIs are apart", async () => {
  const { cells, cellMaps } = mine;
  if (!cells) throw new Error("there are no cells");
  // By the clock of the process that takes the order, two hours ago.
  const startedAt = Date.now() - 7_200_000;
  await changeMap(cellMaps, (map) => pinTenant(map, { tenant: "clocks", cell: "b" }, startedAt));
  const { maps, looks } = watched(cellMaps);
  const settler = new PinSettler({ cells, maps, errors: quietErrors, logger: quietLogger });
  await settler.start();
  await eventually(() => looks() >= 2);
  await settler.stop();
  expect((await cellMaps.refresh()).pins.get("clocks")).toHaveLength(2);
});

test("QUE-5: an id that was stored in an earlier place long after the pin is known for its time", async () => {
  const { cells, cellMaps, queues } = mine;
  if (!cells) throw new Error("there are no cells");
  const queue = queueOf("stark", "k");
  await moveSlots(mine, "a", [slotOfQueue(queue)]);
  await queues.enqueue(numberedItem(queue, 1));
  await pin("stark", "b");
  const { maps, looks } = watched(cellMaps);
  let now = 0;
  const settler = new PinSettler({ cells, maps, errors: quietErrors, logger: quietLogger, now: () => now });
  await settler.start();
  const looked = async (): Promise<void> => {
    // One look may be under way, and the one after it has ended once a third begins.
    const before = looks();
    await eventually(() => looks() >= before + 3);
  };
  await looked();
  now += dedupeMs;
  // Its queue is still in the earlier place.
  const late = { ...numberedItem(queue, 2), dedupeId: "late" };
  expect(await queues.enqueue(late)).toMatchObject({ kind: "stored" });
  const lane = { class: "messages", service: "documents", attempt: "first", tenant: "stark" } as const;
  const [reply] = await Promise.all(queues.claim([{ ...lane, slot: slotOfQueue(queue), maxQueues: 1, maxItems: 2 }]));
  const [claimed] = reply?.claimed ?? [];
  if (claimed?.items.length !== 2) throw new Error("not both were claimed");
  await queues.settle(claimed.lease, { kind: "done", done: 2 });
  await looked();
  expect(await queues.enqueue(late)).toEqual({ kind: "duplicate" });
  now += dedupeMs;
  await eventually(async () => (await cellMaps.refresh()).pins.get("stark")?.length === 1);
  await settler.stop();
});
