/** Slots move between two cells while they are in use. Programs share the test's process; see cells-programs.test.ts for killed ones. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import type { CellMover } from "../../private-api/cells/mover.ts";
import { addMoves, takeSlots } from "../../private-api/cells/plan-moves.ts";
import { changeMap } from "../../shared/cells/change-map.ts";
import { RedisCellMaps } from "../../shared/cells/redis.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { formatSlots, parseSlots } from "../../shared/redis/cell-map.ts";
import { slotTag } from "../../shared/channels/keys.ts";
import type { PublishOutcome } from "../../shared/channels/contract.ts";
import type { DocumentStore } from "../../shared/documents/contract.ts";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { RedisBroker } from "../../shared/channels/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import type { QueueName } from "../../shared/queues/contract.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import type { CellTargets, RedisTarget } from "../../shared/redis/target.ts";
import { moveSlots, startMover, startTwoCells, type TwoCells } from "../support/cells.ts";
import { dispatcherOf } from "../support/dispatcher.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { repeat } from "../support/repeat.ts";

const retention = { historySize: 100_000, historySeconds: 300 };

let twoCells: TwoCells;
let mine: Stores;
let other: Stores;
let mover: CellMover;
const pauses: number[] = [];

beforeAll(async () => {
  twoCells = await startTwoCells();
  mine = await twoCells.open();
  other = await twoCells.open();
  mover = await startMover(other, (pausedMs) => pauses.push(pausedMs));
});
afterAll(async () => {
  await mover.stop();
  await twoCells.stop();
});

interface Delivered {
  key: string;
  n: number;
  sequence: string;
  fence: string;
}
const delivered: Delivered[] = [];

function headOf(id: string): string {
  const about = { event: "edit", source: "/test", path: "/", at: Date.now(), traceparent: "00" };
  return formatHead({ id, ...about }, { user: "u", sessionId: "s", claims: {} });
}

function newDispatcher({ queues }: Stores): Dispatcher {
  return dispatcherOf(queues, async ({ body, sequence, fence }) => {
    const [key = "", n = ""] = (JSON.parse(body) as string).split(" ");
    delivered.push({ key, n: Number(n), sequence, fence });
    // Services differ in how long they take.
    for (let turns = Math.random() * 5; turns > 0; turns--) await nextTurn();
  });
}

async function move(to: string, text: string): Promise<void> {
  const slots = parseSlots(text) ?? [];
  await moveSlots(mine, to, slots);
  expect(mine.cellMaps.map.owners.filter((_, slot) => slots.includes(slot))).toEqual(slots.map(() => to));
}

describe("moves", () => {
  test("CELL-3: a channel keeps its history, and a follower sees no gap over a move under publishes", async () => {
    const channel = "board:moving";
    const slot = slotOf(channel);
    const seen: { offset: number; prev: number; data: string }[] = [];
    let restored = 0;
    other.broker.listen({
      onPublication: (name, _epoch, publication) => void (name === channel && seen.push(publication)),
      onEphemeral: () => undefined,
      onUserMessage: () => undefined,
      onRestored: () => void restored++,
    });
    await other.broker.follow({ kind: "channel", name: channel });
    let published = 0;
    const publishing = repeat(async () => {
      await mine.broker.publish({ channel, event: "moved", data: String(published), retention });
      published++;
    });
    await eventually(() => published > 50);
    await move("b", String(slot));
    await eventually(() => published > 100);
    await move("a", String(slot));
    const before = published;
    await eventually(() => published > before + 50);
    await publishing.stop();
    await eventually(() => seen.length === published);
    expect(seen.map(({ data }) => Number(data))).toEqual(Array.from({ length: published }, (_, at) => at));
    for (const [at, { prev }] of seen.entries()) expect(prev).toBe(seen[at - 1]?.offset ?? 0);
    expect(restored).toBe(0);
    const history = await mine.broker.readHistory({ channel, retention, limit: 100_000, maxBytes: 1 << 30 });
    expect(history.publications).toHaveLength(published);
    expect(pauses.length).toBeGreaterThanOrEqual(2);
  });

  test("CELL-23: a move that was ordered twice leaves its slots with what they have", async () => {
    const channel = "board:twice";
    const slot = slotOf(channel);
    await mine.broker.publish({ channel, event: "moved", data: "kept", retention });
    await changeMap(mine.cellMaps, (map) => {
      const planned = takeSlots(map, "b", [slot]);
      return addMoves(map, [...planned, ...planned], Date.now());
    });
    await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0);
    expect(mine.cellMaps.map.owners[slot]).toBe("b");
    const history = await mine.broker.readHistory({ channel, retention, limit: 10, maxBytes: 1 << 20 });
    expect(history.publications.map(({ data }) => data)).toEqual(["kept"]);
    await move("a", String(slot));
  });

  test("CELL-4: queues stay in order over moves under load, with two dispatchers", async () => {
    const dispatchers = [newDispatcher(mine), newDispatcher(other)];
    for (const dispatcher of dispatchers) await dispatcher.start();
    const keys = Array.from({ length: 40 }, (_, at) => `key-${at}`);
    const queueOf = (key: string): QueueName => ({ service: "documents", tenant: "", key });
    let stored = 0;
    const storing = [mine, other].map(({ queues }, writer) => {
      // One writer for each key, which does not wait for its items.
      const own = keys.filter((_, at) => at % 2 === writer);
      const counts = new Map<string, number>();
      return repeat(async () => {
        const items = own.map(async (key) => {
          const n = (counts.get(key) ?? 0) + 1;
          counts.set(key, n);
          await queues.enqueue({
            queue: queueOf(key),
            class: "messages",
            head: headOf(`${key} ${n}`),
            data: `"${key} ${n}"`,
          });
          stored++;
        });
        await Promise.all(items);
        await eventually(() => stored - delivered.length < 200);
      });
    });
    await eventually(() => delivered.length > 200);
    const slots = formatSlots(keys.map((key) => slotOfQueue(queueOf(key))));
    await move("b", slots);
    await move("a", slots);
    const before = delivered.length;
    await eventually(() => delivered.length > before + 200);
    await Promise.all(storing.map(async (each) => each.stop()));
    await eventually(() => delivered.length >= stored);
    for (const dispatcher of dispatchers) await dispatcher.stop();
    for (const key of keys) {
      const own = delivered.filter((item) => item.key === key);
      expect(own.map(({ n }) => n)).toEqual(Array.from({ length: own.length }, (_, at) => at + 1));
      for (const [at, { sequence, fence }] of own.entries()) {
        const previous = own[at - 1];
        if (!previous) continue;
        expect(sequence > previous.sequence).toBe(true);
        expect(fence >= previous.fence).toBe(true);
      }
    }
    expect(delivered).toHaveLength(stored);
  });

  test("CELL-4: a long queue keeps its items and their order while it moves and is worked off", async () => {
    const queue = { service: "long", tenant: "", key: "k" };
    const slot = slotOfQueue(queue);
    const lane = { slot, class: "messages", service: "long", attempt: "first", tenant: "" } as const;
    const enqueue = async (n: number): Promise<unknown> =>
      mine.queues.enqueue({ queue, class: "messages", head: headOf(String(n)), data: String(n) });
    const taken: number[] = [];
    /** @returns false where nothing was ready. */
    const takeSome = async (): Promise<boolean> => {
      const [reply] = await Promise.all(other.queues.claim([{ ...lane, maxQueues: 1, maxItems: 7 }]));
      const [claimed] = reply?.claimed ?? [];
      if (!claimed) return false;
      taken.push(...claimed.items.map(({ data }) => Number(data)));
      return other.queues.settle(claimed.lease, { kind: "done", done: claimed.items.length });
    };
    let stored = 0;
    for (; stored < 3_000; stored += 100) {
      await Promise.all(Array.from({ length: 100 }, async (_, at) => enqueue(stored + at)));
    }
    const working = repeat(async () => {
      expect(await takeSome()).toBe(true);
      await enqueue(stored++);
    });
    await move("b", String(slot));
    await move("a", String(slot));
    await working.stop();
    while (await takeSome());
    expect(taken).toEqual(Array.from({ length: stored }, (_, at) => at));
  });

  test("CELL-2: a cell refuses a writer with an older map, which reads the map and repeats in order", async () => {
    const channel = "board:refused";
    // A process that was paused: it reports nothing, hears of no new map, and its calls arrive late.
    const stale = new Cells(mine.cells?.all ?? new Map(), quietLogger);
    const old = mine.cellMaps.map;
    stale.use(old);
    stale.refreshWith(async () => stale.use(await mine.cellMaps.refresh()));
    const staleBroker = new RedisBroker({ cells: stale, logger: quietLogger });
    const publish = async (data: string): Promise<PublishOutcome> =>
      staleBroker.publish({ channel, event: "e", data, retention });
    await publish("0");
    await move("b", String(slotOf(channel)));
    expect(stale.map.version).toBe(old.version);
    const outcomes = await Promise.all(["1", "2", "3"].map(publish));
    expect(stale.map.version).toBeGreaterThan(old.version);
    await stale.stop();
    const { publications } = await mine.broker.readHistory({ channel, retention, limit: 10, maxBytes: 1 << 20 });
    expect(publications.map(({ data }) => data)).toEqual(["0", "1", "2", "3"]);
    expect(outcomes.map(({ position }) => position.offset)).toEqual(publications.slice(1).map(({ offset }) => offset));
  });

  test("CELL-6: an aborted move leaves the slots where they are, and nothing at the destination", async () => {
    const channel = "board:aborted";
    const slot = slotOf(channel);
    await move("a", String(slot));
    await mine.broker.publish({ channel, event: "e", data: "0", retention });
    await changeMap(mine.cellMaps, (map) => addMoves(map, takeSlots(map, "b", [slot]), Date.now()));
    await eventually(() => mine.cellMaps.map.moves[0]?.step === "preparing");
    await changeMap(mine.cellMaps, ({ owners, moves }) => ({
      owners,
      moves: moves.map((known) => (known.step === "preparing" ? { ...known, step: "aborting" as const } : known)),
    }));
    await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0);
    expect(mine.cellMaps.map.owners[slot]).toBe("a");
    await mine.broker.publish({ channel, event: "e", data: "1", retention });
    const keysOfB = await mine.cells?.all.get("b")?.run<[string, string[]]>("scan", "0", "COUNT", 100_000);
    expect(keysOfB?.[1].filter((key) => key.startsWith(`tidegate:{${slot}}:`))).toEqual([`tidegate:{${slot}}:arrival`]);
  });
});

describe("moves that cannot go on", () => {
  test("CELL-13: slots that were closed without a complete copy open again, and the move starts over", async () => {
    const channel = "board:closed";
    const slot = slotOf(channel);
    await move("a", String(slot));
    // As a mover leaves it that was killed just then.
    await changeMap(mine.cellMaps, (map) => {
      const { owners, moves } = addMoves(map, takeSlots(map, "b", [slot]), Date.now());
      return { owners, moves: moves.map((each) => ({ ...each, step: "closed" as const })) };
    });
    const outcome = await mine.broker.publish({ channel, event: "e", data: "0", retention });
    expect(outcome.kind).toBe("published");
    await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0);
    expect(mine.cellMaps.map.owners[slot]).toBe("b");
    const { publications } = await other.broker.readHistory({ channel, retention, limit: 10, maxBytes: 1 << 20 });
    expect(publications).toHaveLength(1);
  });

  test("CELL-13: while the destination hangs the source serves, and the error says why", async () => {
    const channel = "board:hanging";
    const slot = slotOf(channel);
    await move("a", String(slot));
    twoCells.b.signal("SIGSTOP");
    try {
      await changeMap(mine.cellMaps, (map) => addMoves(map, takeSlots(map, "b", [slot]), Date.now()));
      await eventually(() => mine.cellMaps.map.moves[0]?.error !== undefined);
      await mine.broker.publish({ channel, event: "e", data: "0", retention });
    } finally {
      twoCells.b.signal("SIGCONT");
    }
    await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0);
    expect(mine.cellMaps.map.owners[slot]).toBe("b");
  });
});

test("CELL-14: programs do not start with exchanged cells, or with one server while others own slots", async () => {
  const cells = await startTwoCells("128-255");
  const refused = async (targets: RedisTarget | CellTargets): Promise<string> => {
    const stores = createStores(targets, quietLogger);
    try {
      await stores.start();
      return "started";
    } catch (error) {
      return (error as Error).message;
    } finally {
      await stores.stop();
    }
  };
  const [a, b] = cells.targets.values();
  if (!a || !b) throw new Error("there are two cells");
  try {
    const exchanged = new Map([
      ["a", b],
      ["b", a],
    ]);
    expect(await refused(exchanged)).toContain("the server of a is cell b of a deployment whose first cell is a");
    const reordered = new Map([
      ["b", b],
      ["a", a],
    ]);
    expect(await refused(reordered)).toContain("correct names and order");
    expect(await refused(a)).toContain("the cells b own slots: set REDIS_CELLS, or drain them first");
    expect(await refused(b)).toContain("this server is cell b, and a is the first one");
    expect(await refused(cells.targets)).toBe("started");
  } finally {
    await cells.stop();
  }
});

describe("what is lost", () => {
  test("CELL-1: without a map the first cell owns every slot", async () => {
    const cells = await startTwoCells();
    try {
      const { cellMaps } = await cells.open();
      expect(cellMaps.map).toMatchObject({ version: 1, moves: [] });
      expect(new Set(cellMaps.map.owners)).toEqual(new Set(["a"]));
    } finally {
      await cells.stop();
    }
  });

  test("CELL-10: cells that lose their data, the map included, are used again by processes that know it", async () => {
    const cells = await startTwoCells("128-255");
    try {
      const { broker, cellMaps } = await cells.open();
      const names = ["board:1", "board:2", "board:3", "board:4", "board:5", "board:6"];
      expect(new Set(names.map((name) => cellMaps.map.owners[slotOf(name)])).size).toBe(2);
      const { owners, version } = cellMaps.map;
      for (const server of [cells.a, cells.b]) {
        await server.kill();
        await server.restart();
      }
      for (const channel of names) {
        const publish = async (): Promise<boolean> =>
          broker.publish({ channel, event: "e", data: "1", retention }).then(
            () => true,
            () => false,
          );
        await eventually(publish);
      }
      const later = await cells.open();
      await eventually(() => later.cellMaps.map.version > version);
      expect(later.cellMaps.map.owners).toEqual(owners);
    } finally {
      await cells.stop();
    }
  });

  test("CELL-10: a cell that lost its data accepts no process that fails to read the newest map", async () => {
    const cells = await startTwoCells("7");
    const { cells: known, cellMaps } = await cells.open();
    const b = known?.all.get("b");
    if (!known || !b) throw new Error("there are no two cells");
    // A process that was frozen: it hears of no change, and after it wakes every second read of the map fails.
    const stale = new Cells(known.all, quietLogger);
    const stored = new RedisDocumentStore(stale, "cells");
    let reads: "work" | "fail" | "fail now and then" = "work";
    let asked = 0;
    const store: DocumentStore = {
      start: async () => undefined,
      stop: async () => undefined,
      onChange: () => undefined,
      put: async (request) => stored.put(request),
      read: async () => {
        asked++;
        if (reads === "fail" || (reads === "fail now and then" && asked % 2 === 0)) throw brokerUnavailable("cut off");
        return stored.read();
      },
    };
    const staleMaps = new RedisCellMaps({ cells: stale, store, errors: quietErrors, logger: quietLogger });
    try {
      await staleMaps.start();
      expect(stale.map.owners[7]).toBe("b");
      reads = "fail";
      const moved = await changeMap(cellMaps, ({ owners }) => ({ owners: owners.with(7, "a") }));
      await b.run("flushall");
      asked = 0;
      reads = "fail now and then";
      const name = `${slotTag(b.root, 7)}:channel`;
      const written = stale.ofSlot(7).run("set", name, "acknowledged");
      await eventually(() => asked >= 6);
      reads = "work";
      await written;
      expect(stale.map.version).toBe(moved.version);
      expect(await Promise.all([known.fleet.run("get", name), b.run("get", name)])).toEqual(["acknowledged", null]);
    } finally {
      await staleMaps.stop();
      await stale.stop();
      await cells.stop();
    }
  });

  test("CELL-7: a step of a move fails where its process cannot read the map that it has stored", async () => {
    const cells = await startTwoCells();
    const { cells: known } = await cells.open();
    if (!known) throw new Error("there are no two cells");
    const own = new Cells(known.all, quietLogger);
    const stored = new RedisDocumentStore(own, "cells");
    let isCutOff = false;
    const store: DocumentStore = {
      start: async () => undefined,
      stop: async () => undefined,
      onChange: () => undefined,
      put: async (request) => {
        const outcome = await stored.put(request);
        isCutOff = true;
        return outcome;
      },
      read: async () => {
        if (isCutOff) throw brokerUnavailable("cut off");
        return stored.read();
      },
    };
    const maps = new RedisCellMaps({ cells: own, store, errors: quietErrors, logger: quietLogger });
    try {
      await maps.start();
      // With the version of the map before it would fence the source too low.
      const step = changeMap(maps, ({ owners }) => ({ owners: owners.with(7, "b") }));
      await expect(step).rejects.toMatchObject({ code: "broker_unavailable" });
      isCutOff = false;
      expect((await maps.refresh()).owners[7]).toBe("b");
    } finally {
      await maps.stop();
      await own.stop();
      await cells.stop();
    }
  });
});

describe("a dead cell", () => {
  test("CELL-5: a dead cell concerns its own slots only", async () => {
    const ofA = "board:alive";
    const ofB = "board:dead";
    await move("b", String(slotOf(ofB)));
    // It was stopped before: where nothing is connected yet a call is refused at once.
    await eventually(() => mine.cellMaps.states.get("b") === "ok");
    twoCells.b.signal("SIGSTOP");
    try {
      const ended: string[] = [];
      const publish = async (channel: string): Promise<PublishOutcome> =>
        mine.broker.publish({ channel, event: "e", data: "0", retention }).finally(() => ended.push(channel));
      const [dead, alive] = await Promise.allSettled([publish(ofB), publish(ofA)]);
      // It did not wait for the other cell.
      expect(ended).toEqual([ofA, ofB]);
      expect(alive.status).toBe("fulfilled");
      expect(dead).toMatchObject({ status: "rejected", reason: { code: "broker_unavailable" } });
      expect(mine.broker.state).toBe("ok");
      await eventually(() => mine.cellMaps.states.get("b") !== "ok");
    } finally {
      twoCells.b.signal("SIGCONT");
    }
    await eventually(() => mine.cellMaps.states.get("b") === "ok");
    await mine.broker.publish({ channel: ofB, event: "e", data: "1", retention });
  });
});
