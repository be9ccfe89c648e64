/** What becomes of changes between the log and the queues of endpoints. */
import { describe, expect, test, vi } from "vitest";
import { Backlogs } from "../../private-api/endpoints/backlogs.ts";
import { Behind } from "../../private-api/endpoints/behind.ts";
import { CatchUp } from "../../private-api/endpoints/catch-up.ts";
import { ChangeQueue, type Wanted, wantedOf } from "../../private-api/endpoints/change-queue.ts";
import { CurrentEndpoints } from "../../private-api/endpoints/current-endpoints.ts";
import { CursorSweep } from "../../private-api/endpoints/cursor-sweep.ts";
import { DelayedPlaces, type NotedPlace } from "../../private-api/endpoints/delayed-places.ts";
import { HeldSlots } from "../../private-api/endpoints/held-slots.ts";
import { MovedEndpoints } from "../../private-api/endpoints/moved-endpoints.ts";
import { StoppingEndpoints } from "../../private-api/endpoints/stopping-endpoints.ts";
import { StoredPlaces } from "../../private-api/endpoints/stored-places.ts";
import { changeMessage } from "../../private-api/endpoints/queued-change.ts";
import { LeaseEnded } from "../../private-api/leases/lease-ended.ts";
import { ServiceStates } from "../../private-api/dispatch/service-states.ts";
import { type Change, placeBeforeAll, type SlotRead } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import type { NewItem, QueueStore } from "../../shared/queues/contract.ts";
import { slotCount, slotOf } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { Circuit } from "../../shared/services/circuit.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { plainEndpoint, storedEndpoint } from "../support/stored-endpoint.ts";
import { RowFetches } from "../../private-api/endpoints/row-fetches.ts";
import { noTables } from "../support/table-rows.ts";

const mebibyte = 1024 * 1024;
const stops = { hasStopped: () => false };
const isHeld = (): boolean => true;

function change(n: number): Change {
  return {
    ...{ place: `${n}-${n}`, at: n, channel: "board:1", epoch: "e", offset: n, prev: n - 1 },
    ...{ event: "moved", data: JSON.stringify({ card: n }) },
  };
}

function wantedChanges(count: number, endpoints: readonly StoredEndpoint[] = [storedEndpoint()]): Wanted[] {
  return Array.from({ length: count }, (_, at) => ({
    ...{ slot: 0, before: `${at}-${at}`, message: changeMessage(change(at + 1)), endpoints },
  }));
}

/** @param enqueue called for each item that is queued. @returns `services` they are queued for, in order */
function queueing(enqueue: (item: NewItem) => Promise<void>): {
  queue: ChangeQueue;
  behind: Behind;
  services: string[];
} {
  const behind = new Behind();
  const services: string[] = [];
  const queue = new ChangeQueue({
    queues: {
      enqueue: async (item) => {
        services.push(item.queue.service);
        await enqueue(item);
        return { kind: "stored", sequence: "1" };
      },
    },
    backlogs: new Backlogs({ waitingOfSource: async () => 0 }),
    ...{ behind, stops },
  });
  return { queue, behind, services };
}

test("EP-17: an item that could not be stored is not lost when its endpoint falls behind after it", async () => {
  const behind = new Behind();
  // Room for two.
  const backlogs = new Backlogs({ waitingOfSource: async () => 998 });
  const stored: NewItem[] = [];
  let isAway = true;
  const queue = new ChangeQueue({
    queues: {
      enqueue: async (item) => {
        if (isAway) throw new TidegateError("broker_unavailable", "away");
        stored.push(item);
        return { kind: "stored", sequence: "1" };
      },
    },
    ...{ backlogs, behind, stops },
  });
  const wanted = wantedChanges(3);
  await expect(queue.add(wanted, isHeld)).rejects.toThrow("away");
  expect(behind.isEmpty).toBe(true);
  isAway = false;
  await queue.add(wanted, isHeld);
  // What it has got ends where it is read for from now on.
  expect(behind.places("ep_1").get(0)?.place).toBe(`${stored.length}-${stored.length}`);
});

test("EP-18: what follows an item that could not be stored is not queued ahead of it", async () => {
  const given: string[] = [];
  const { queue } = queueing(async ({ data }) => {
    given.push(data);
    if (given.length === 1) throw new TidegateError("broker_unavailable", "away");
  });
  // More than one turn of the event loop takes.
  await expect(queue.add(wantedChanges(5_000), isHeld)).rejects.toThrow("away");
  expect(given.length).toBeLessThan(1_000);
});

test("EP-27: a reader that was frozen longer than its lease queues no more of what it had read", async () => {
  const given: string[] = [];
  const { queue, behind } = queueing(async ({ data }) => void given.push(data));
  // Frozen in a pause between two changes, while another process has paused its endpoint.
  const isHeldFirst = (): boolean => given.length < 3;
  await expect(queue.add(wantedChanges(20), isHeldFirst)).rejects.toThrow(LeaseEnded);
  expect(given.length).toBe(3);
  expect(behind.isEmpty).toBe(true);
});

test("EP-18: an endpoint that was behind gets nothing of a step after its slot is lost meanwhile", async () => {
  const { queue, behind, services } = queueing(async () => behind.lose(0));
  const late = storedEndpoint({ endpoint: plainEndpoint({ id: "ep_late" }) });
  behind.set(late, 0, "0-0");
  await queue.add(wantedChanges(3, [storedEndpoint(), late]), isHeld);
  expect(behind.has("ep_late", 0)).toBe(false);
  expect(new Set(services)).toEqual(new Set(["endpoint/ep_1"]));
});

test("EP-15: no more than 4 MiB of an endpoint wait in queues, but for one item", async () => {
  let waiting = 0;
  const backlogs = new Backlogs({ waitingOfSource: async () => waiting });
  await backlogs.expect(new Map([["ep_1", 1]]));
  expect(backlogs.take("ep_1", 3 * mebibyte)).toBe(true);
  expect(backlogs.take("ep_1", 3 * mebibyte)).toBe(true);
  expect(backlogs.take("ep_1", 1)).toBe(false);
  waiting = 1;
  expect(await backlogs.room("ep_1")).toBeUndefined();
  waiting = 0;
  // A tenth stays free for what comes in slots that the endpoint is not behind in.
  await eventually(async () => (await backlogs.room("ep_1"))?.bytes === 0.9 * 4 * mebibyte);
  expect(backlogs.take("ep_1", 1)).toBe(true);
});

describe("EP-25: what is queued waits for workers", () => {
  const endpoints = Array.from({ length: 10 }, (_, n) =>
    storedEndpoint({ endpoint: plainEndpoint({ id: `ep_${n}` }) }),
  );
  const adding = async (nextSpare: () => Promise<boolean> | undefined): Promise<number> => {
    let queued = 0;
    const queue = new ChangeQueue({
      queues: {
        enqueue: async () => {
          queued++;
          return { kind: "stored", sequence: "1" };
        },
      },
      nextSpare,
      ...{ backlogs: new Backlogs({ waitingOfSource: async () => 0 }), behind: new Behind(), stops },
    });
    await queue.add([{ slot: 0, before: "0-0", message: changeMessage(change(1)), endpoints }], isHeld);
    return queued;
  };

  test("for each while one is spare soon", async () => {
    let asked = 0;
    expect(await adding(() => (++asked % 2 === 0 ? undefined : Promise.resolve(true)))).toBe(10);
    expect(asked).toBe(10);
  });

  test("no more in this step once none was spare in time", async () => {
    let asked = 0;
    expect(await adding(async () => ++asked < 3)).toBe(10);
    expect(asked).toBe(3);
  });

  test("for as long as the slot is held", async () => {
    let holds = true;
    const enqueue = vi.fn<QueueStore["enqueue"]>(async () => ({ kind: "stored", sequence: "1" }));
    const queue = new ChangeQueue({
      queues: { enqueue },
      nextSpare: async () => {
        holds = false;
        return true;
      },
      ...{ backlogs: new Backlogs({ waitingOfSource: async () => 0 }), behind: new Behind(), stops },
    });
    const added = queue.add([{ slot: 0, before: "0-0", message: changeMessage(change(1)), endpoints }], () => holds);
    await expect(added).rejects.toThrow(LeaseEnded);
    expect(enqueue).not.toHaveBeenCalled();
  });

  test("for no longer than 250 ms in one step", async () => {
    let asked = 0;
    const now = vi.spyOn(performance, "now").mockReturnValue(0);
    try {
      const queued = await adding(async () => {
        now.mockReturnValue(++asked * 50);
        return true;
      });
      expect(queued).toBe(10);
    } finally {
      now.mockRestore();
    }
    expect(asked).toBe(5);
  });
});

test("EP-25: what is read for an endpoint that is behind leaves a tenth of its window to what comes in other slots", async () => {
  let waiting = 0;
  const backlogs = new Backlogs({ waitingOfSource: async () => waiting });
  expect(await backlogs.room("ep_1")).toMatchObject({ items: 900 });
  for (let n = 0; n < 900; n++) expect(backlogs.take("ep_1", 1)).toBe(true);
  expect(await backlogs.room("ep_1")).toBeUndefined();
  for (let n = 0; n < 100; n++) expect(backlogs.take("ep_1", 1)).toBe(true);
  expect(backlogs.take("ep_1", 1)).toBe(false);
  waiting = 799;
  await eventually(async () => (await backlogs.room("ep_1"))?.items === 101);
});

test("EP-15: of endpoints that are behind or paused nothing is counted while others are given changes", async () => {
  const behind = new Behind();
  const asked: string[] = [];
  const backlogs = new Backlogs({
    waitingOfSource: async (source) => {
      asked.push(source);
      return 0;
    },
  });
  const queue = new ChangeQueue({
    queues: { enqueue: async () => ({ kind: "stored", sequence: "1" }) },
    ...{ backlogs, behind, stops },
  });
  const paused = storedEndpoint({ endpoint: plainEndpoint({ id: "ep_paused", halted: "paused" }) });
  const late = storedEndpoint({ endpoint: plainEndpoint({ id: "ep_late" }) });
  behind.set(late, 0, "0-0");
  const endpoints = [paused, late, storedEndpoint()];
  await queue.add([{ slot: 0, before: "0-0", message: changeMessage(change(1)), endpoints }], isHeld);
  expect(asked).toEqual(["endpoint/ep_1"]);
});

describe("one step of the reader", () => {
  const many = Array.from({ length: 15_000 }, (_, n) => storedEndpoint({ endpoint: plainEndpoint({ id: `ep_${n}` }) }));
  const index = { match: () => many, all: many };
  const read = (slot: number, count: number): SlotRead => {
    const changes = Array.from({ length: count }, (_, n) => change(n + 1));
    return { slot, changes, place: `${count}-${count}`, newest: `${count}-${count}` };
  };

  test("EP-25: a step ends once it has about 20,000 deliveries, and says how far it came", () => {
    const { wanted, covered } = wantedOf([read(1, 5), read(2, 1)], new Map([[1, "0-0"]]), index);
    expect(wanted.map(({ before }) => before)).toEqual(["0-0", "1-1"]);
    expect(covered).toMatchObject([{ slot: 1, place: "2-2", newest: "5-5" }]);
    expect(covered[0]?.changes.length).toBe(2);
  });

  test("EP-25: a gap for very many endpoints does not keep the changes after it back", () => {
    const gap = { from: 1, to: 2 };
    const all = [...many, ...many];
    const { covered } = wantedOf([{ ...read(1, 3), gap }], new Map([[1, "0-0"]]), { match: () => all, all });
    expect(covered).toMatchObject([{ slot: 1, place: "1-1" }]);
  });
});

test("EP-2: the key of a change is looked for once, however many endpoints have the same pointer", () => {
  const message = changeMessage({ ...change(1), data: '{"card":7,"list":"done"}' });
  const keyOf = (key: string): string => message.keyFor(storedEndpoint({ endpoint: plainEndpoint({ key }) }));
  for (let repeat = 0; repeat < 2; repeat++) {
    expect(["/card", "/list", "/none", "channel"].map(keyOf)).toEqual(["7", "done", "board:1", "board:1"]);
  }
});

test("EP-9: a process does not wait for ever for endpoints that others change all the time", async () => {
  const store = new MemoryEndpointStore();
  let asked = 0;
  const busy = new Proxy(store, {
    get: (target, name) => {
      if (name === "version") {
        return async () => {
          if (++asked > 100) throw new Error("it asks again and again");
          await target.create(plainEndpoint({ id: `ep_${asked}` }));
          return target.version();
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  const current = new CurrentEndpoints({ store: busy, errors: quietErrors, logger: quietLogger });
  await current.catchUp();
  expect(current.index.size).toBe(1);
});

describe("endpoints that move in the log", () => {
  const moved = (generation: number, id = "ep_1"): StoredEndpoint =>
    storedEndpoint({ endpoint: plainEndpoint({ id }), generation });

  test("EP-10: places are read again for an endpoint that moves while they are read, and not for one that is gone", async () => {
    const stored = new Map([["ep_1", moved(1)]]);
    const loaded: string[] = [];
    const endpoints = new MovedEndpoints({
      current: { index: { get: (id) => stored.get(id), all: [], match: () => [], size: 0 } },
      places: {
        loadBehind: async (asked) => {
          for (const { endpoint, generation } of asked) loaded.push(`${endpoint.id} ${generation}`);
          if (loaded.length > 1) return;
          stored.set("ep_1", moved(2)).set("ep_2", moved(1, "ep_2"));
          for (const each of stored.values()) endpoints.note(each.endpoint.id, each);
        },
      },
      behind: new Behind(),
    });
    endpoints.note("ep_1", moved(1));
    endpoints.note("ep_gone", moved(1, "ep_gone"));
    endpoints.note("ep_gone", undefined);
    await endpoints.load();
    expect(loaded).toEqual(["ep_1 1", "ep_1 2", "ep_2 1"]);
    expect(endpoints.isEmpty).toBe(true);
  });

  test("EP-10: an endpoint that has moved is not read for from its places before the move", async () => {
    const { catchUp, behind, read } = await catchingUp();
    behind.load(moved(0), 3, "1-1");
    await catchUp.step({ get: () => moved(1) });
    expect(read).not.toHaveBeenCalled();
    await catchUp.step({ get: () => moved(0) });
    expect(read).toHaveBeenCalledOnce();
  });
});

test("EP-25: an endpoint that is behind is read for in its slots in turn, however many changes one of them has", async () => {
  const { catchUp, behind, queued, publish } = await catchingUp();
  const channels = ["board:1", "board:2", "board:3"];
  expect(new Set(channels.map(slotOf)).size).toBe(3);
  for (let n = 0; n < 600; n++) publish("board:1");
  for (const channel of channels.slice(1)) publish(channel);
  const stored = storedEndpoint();
  for (const channel of channels) behind.load(stored, slotOf(channel), placeBeforeAll);
  await catchUp.step({ get: () => stored });
  await catchUp.step({ get: () => stored });
  expect(queued.filter((key) => key !== "board:1").toSorted()).toEqual(["board:2", "board:3"]);
  expect(queued.length).toBeLessThan(500);
});

test("EP-20: an endpoint hears of no gap in slots that have none of its channels", async () => {
  const { catchUp, behind, read } = await catchingUp();
  const stored = storedEndpoint({ endpoint: plainEndpoint({ channels: ["board:1"] }) });
  const own = slotOf("board:1");
  const foreign = slotOf("board:2");
  expect(foreign).not.toBe(own);
  behind.load(stored, foreign, "1-1");
  expect(await catchUp.step({ get: () => stored })).toBe(true);
  expect(read).not.toHaveBeenCalled();
  expect(behind.unsaved).toEqual([{ slot: foreign, name: "endpoint/ep_1/0", place: undefined }]);
  behind.load(stored, own, "1-1");
  await catchUp.step({ get: () => stored });
  expect(read).toHaveBeenCalledOnce();
});

const retention = { maxBytes: mebibyte, maxSeconds: 600, unclaimedSeconds: 600 };

/** All other endpoints have the changes of every slot up to `5-5`, or those that the test publishes. */
async function catchingUp() {
  const log = new MemoryChangeLog();
  const read = vi.spyOn(log, "read");
  const slots = new HeldSlots({ log, readers: async () => 1, onLost: () => undefined });
  for (const held of await slots.renew()) held.place = "5-5";
  const queued: string[] = [];
  let offset = 0;
  const publish = (channel: string): void => {
    const position = { epoch: "e", offset: ++offset, prev: offset - 1 };
    log.append({ channel, ...position, event: "moved", data: "1" }, retention);
    const held = slots.of(slotOf(channel));
    if (held) held.place = "9999999999999-9";
  };
  const behind = new Behind();
  const backlogs = new Backlogs({ waitingOfSource: async () => 0 });
  const queue = new ChangeQueue({
    queues: {
      enqueue: async (item) => {
        queued.push(item.queue.key);
        return { kind: "stored", sequence: "1" };
      },
    },
    ...{ backlogs, behind, stops },
  });
  const catchUp = new CatchUp({
    ...{ slots, behind, backlogs, queue },
    fetches: new RowFetches({ tables: noTables, onFetched: () => undefined }),
  });
  return { catchUp, behind, read, queued, publish };
}

test("EP-22: places of endpoints that are gone, and of earlier generations, are removed from the log", async () => {
  const log = new MemoryChangeLog();
  const slots = new HeldSlots({ log, readers: async () => 1, onLost: () => undefined });
  await slots.renew();
  const stored = storedEndpoint({ generation: 3 });
  const names = ["endpoint/ep_1/2", "endpoint/ep_1/3", "endpoint/ep_1/4", "endpoint/ep_gone/0", "endpoints"];
  await log.saveCursors([0, 255].flatMap((slot) => names.map((name) => ({ slot, name, place: "1-1" }))));
  const index = { get: (id: string) => (id === "ep_1" ? stored : undefined), all: [stored], match: () => [], size: 1 };
  const sweep = new CursorSweep({ log, slots, current: { catchUp: async () => undefined, index } });
  for (let slot = 0; slot < slotCount; slot++) await sweep.step();
  const kept = ["endpoint/ep_1/3", "endpoint/ep_1/4", "endpoints"];
  for (const slot of [0, 255]) expect((await log.cursorsOf(slot)).cursors.map(({ name }) => name)).toEqual(kept);
});

test("EP-15: places of endpoints that fall behind are stored in parts, before that of the others", async () => {
  const log = new MemoryChangeLog();
  const save = vi.spyOn(log, "saveCursors");
  const slots = new HeldSlots({ log, readers: async () => 1, onLost: () => undefined });
  await slots.renew();
  const behind = new Behind();
  const places = new StoredPlaces({ log, slots, behind, delayMs: () => 0 });
  for (let n = 0; n < 1_200; n++) {
    behind.set(storedEndpoint({ endpoint: plainEndpoint({ id: `ep_${n}` }) }), 3, "1-1");
  }
  await places.save([{ slot: 3, place: "2-2" }]);
  const stored = save.mock.calls.map(([changes]) => changes.map(({ name }) => name));
  expect(stored.map(({ length }) => length)).toEqual([500, 500, 201]);
  expect(stored.at(-1)?.at(-1)).toBe("endpoints");
  expect((await log.cursors([3], "endpoint/ep_7/0")).map(({ place }) => place)).toEqual(["1-1"]);
});

/** A call without a reply. @returns executes it */
function delayNext(log: MemoryChangeLog): () => Promise<readonly boolean[]> {
  const save = log.saveCursors.bind(log);
  let late: Parameters<typeof save>[0] = [];
  vi.spyOn(log, "saveCursors").mockImplementationOnce(async (changes) => {
    late = changes;
    throw new TidegateError("broker_unavailable", "no reply");
  });
  return async () => save(late);
}

test("EP-15: a place that arrives late does not replace what was stored after it", async () => {
  const log = new MemoryChangeLog();
  const behind = new Behind();
  const slots = new HeldSlots({ log, readers: async () => 1, onLost: (slot) => behind.lose(slot) });
  await slots.renew();
  const places = new StoredPlaces({ log, slots, behind, delayMs: () => 0 });
  const stored = storedEndpoint();
  behind.set(stored, 3, "1-1");
  await places.save();
  // It has what the others have, and falls behind again.
  const arrive = delayNext(log);
  behind.join("ep_1", 3);
  await expect(places.save()).rejects.toThrow("no reply");
  await slots.renew();
  await places.loadAllBehind([3], { get: () => stored });
  behind.set(stored, 3, "5-5");
  await places.save();
  await arrive();
  expect((await log.cursors([3], "endpoint/ep_1/0")).map(({ place }) => place)).toEqual(["5-5"]);
});

test.each(["was stored", "is stored late"])(
  "CUT-1: nothing is queued after the place of a stop that %s without a reply",
  async (how) => {
    const log = new MemoryChangeLog();
    const behind = new Behind();
    const slots = new HeldSlots({ log, readers: async () => 1, onLost: (slot) => behind.lose(slot) });
    const stored = storedEndpoint({ endpoint: plainEndpoint({ stopping: "s" }) });
    const stopping = new StoppingEndpoints({
      ...{ log, slots, behind, moved: { has: () => false }, isLoaded: () => true },
      current: { index: { get: () => stored, all: [stored], match: () => [], size: 1 } },
    });
    stopping.start();
    const readTo = async (place: string): Promise<void> => {
      await slots.renew();
      for (const held of slots.all.values()) Object.assign(held, { place, queuedUpTo: place });
      await stopping.load([3]);
    };
    await readTo("5-5");
    const arrive = delayNext(log);
    await expect(stopping.mark()).rejects.toThrow("no reply");
    if (how === "was stored") await arrive();
    await readTo("5-5");
    if (!stopping.hasStopped(stored, 3)) {
      await readTo("7-7");
      await stopping.mark();
      if (how !== "was stored") await arrive();
    }
    const [cursor] = await log.cursors([3], "stop/ep_1/s");
    expect(cursor?.place).toBe(how === "was stored" ? "5-5" : "7-7");
  },
);

function noted(name: string, place: string | undefined): NotedPlace {
  const held = {
    lease: { slot: 1, fence: 1 },
    heldSince: 0,
    place: undefined,
    seen: undefined,
    queuedUpTo: undefined,
    gap: undefined,
  };
  return { slot: 1, name, place, held };
}

test("EP-28: places are stored as all of them were at one moment, some time before", () => {
  const delayed = new DelayedPlaces();
  delayed.note([noted("endpoints", "1-1"), noted("late", "1-1")], 0);
  delayed.note([noted("endpoints", "2-2")], 100);
  delayed.note([noted("endpoints", "9-9"), noted("late", undefined)], 900);
  expect(delayed.take(5_000, 4_999)).toEqual([]);
  const due = delayed.take(5_000, 5_000);
  expect(due.map(({ name, place }) => [name, place])).toEqual([
    ["late", "1-1"],
    ["endpoints", "2-2"],
  ]);
  delayed.putBack(due);
  expect(delayed.take(5_000, 5_900).map(({ name, place }) => [name, place])).toEqual([
    ["endpoints", "9-9"],
    ["late", undefined],
  ]);
});

test("EP-28: the place of the reader is stored after those of endpoints that were noted with it", () => {
  const delayed = new DelayedPlaces();
  delayed.note([noted("endpoints", "1-1")], 0);
  delayed.note([noted("late", "1-1"), noted("endpoints", "2-2")], 100);
  delayed.note([noted("later", "2-2"), noted("endpoints", "3-3")], 900);
  expect(delayed.take(0, 100).map(({ name }) => name)).toEqual(["late", "endpoints"]);
  delayed.note([noted("endpoints", "4-4")], 2_000);
  delayed.putBack([noted("endpoints", "2-2")]);
  expect(delayed.take(0, 2_000).map(({ name, place }) => `${name} ${place}`)).toEqual(["later 2-2", "endpoints 4-4"]);
});

test("EP-22: endpoints that are gone share what a dispatcher remembers of a service", () => {
  const circuit = new Circuit();
  const states = new ServiceStates((name) => ({
    ...(name.startsWith("gone") && { stateName: "gone" }),
    ...{ maxInFlight: 1, maxBatch: 1, circuit },
  }));
  expect(states.of("gone/1")).toBe(states.of("gone/2"));
  expect(states.of("here/1")).not.toBe(states.of("here/2"));
});

test("EP-16: an endpoint counts as slow while it does not answer, and after it took long", () => {
  const circuit = new Circuit();
  const known = { maxInFlight: 8, maxBatch: 1, circuit };
  const states = new ServiceStates((name) => ({ ...known, isOutside: name.startsWith("endpoint/") }));
  const state = states.of("endpoint/1");
  const other = states.of("endpoint/2");
  // Retries have workers of their own.
  states.takeWorker(other, "retry");
  expect(states.of("rules")?.share(0)).toBe(Infinity);
  states.takeWorker(state, "first");
  const seen = (nowMs: number): unknown[] => [
    ...[state?.share(nowMs), states.doubtful("first", nowMs), state?.capacity(nowMs)],
  ];
  expect(seen(999)).toEqual([3 / 4, 1, 1]);
  state?.begin(1_000);
  expect(seen(1_001)).toEqual([3 / 4, 1, 0]);
  expect(seen(1_600)).toEqual([1 / 2, 1, 0]);
  // It was not sent: the circuit was open.
  state?.end(undefined, 1_650);
  expect(seen(1_651)).toEqual([3 / 4, 1, 1]);
  state?.begin(1_690);
  state?.end(5, 1_700);
  expect(seen(1_701)).toEqual([Infinity, 0, 8]);
  state?.begin(2_000);
  expect(seen(2_001)).toEqual([Infinity, 0, 7]);
  expect(seen(2_600)).toEqual([1 / 2, 1, 0]);
  state?.end(600, 2_600);
  expect(states.doubtful("retry", 2_600)).toBe(1);
  states.releaseWorker(other, "retry");
  states.takeWorker(state, "retry");
  states.releaseWorker(state, "retry");
  expect([states.doubtful("retry", 2_601), states.doubtful("first", 2_601)]).toEqual([0, 1]);
  states.releaseWorker(state, "first");
  expect(seen(9_000)).toEqual([1 / 2, 0, 8]);
  expect(state?.share(9_000, false)).toBe(7 / 8);
});
