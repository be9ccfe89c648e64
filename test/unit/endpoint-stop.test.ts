/** How a live endpoint becomes a shadow at an exact position. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { cursorName, stopName } from "../../private-api/endpoints/behind.ts";
import { ledgerLines } from "../../private-api/endpoints/ledger.ts";
import { EndpointMoves } from "../../private-api/endpoints/move-endpoint.ts";
import { asStopped, EndpointStops } from "../../private-api/endpoints/stop-endpoint.ts";
import type { Place } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import { everySlot, slotOf } from "../../shared/redis/slots.ts";
import { plainEndpoint, storedEndpoint } from "../support/stored-endpoint.ts";
import { noTables } from "../support/table-rows.ts";

interface Rig {
  store: MemoryEndpointStore;
  log: MemoryChangeLog;
  stops: EndpointStops;
  /** Queued for the endpoint. */
  waiting: number;
  stored(): Promise<StoredEndpoint>;
  /** As the readers do. */
  markAll(): Promise<void>;
}

async function rig(endpoint: Partial<Endpoint> = {}, waitMs = 100): Promise<Rig> {
  const [store, log] = [new MemoryEndpointStore(), new MemoryChangeLog()];
  await store.create(plainEndpoint(endpoint));
  const queues = { waitingOfSource: async () => made.waiting };
  const stored = async (): Promise<StoredEndpoint> => {
    const found = await store.read("ep_1");
    if (!found) throw new Error("no endpoint");
    return found;
  };
  const made: Rig = {
    ...{ store, log, stored, waiting: 0 },
    stops: new EndpointStops({
      store,
      log,
      queues,
      moves: new EndpointMoves({ store, log, offsetOf: async () => 0 }),
      waitMs,
    }),
    markAll: async () => {
      const name = stopName(await stored()) ?? "";
      await log.saveCursors(everySlot.map((slot) => ({ slot, name, place: `7-${slot + 1}` })));
    },
  };
  return made;
}

test("CUT-1: a stop waits for the readers of all slots and for what is queued, and is continued by a further call", async () => {
  const { stops, stored, markAll, ...queue } = await rig();
  await expect(stops.toShadow("ep_1")).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringContaining("the readers of 256 slots") as string,
  });
  const name = stopName(await stored());
  expect((await stored()).endpoint).toMatchObject({ mode: "live", stopping: expect.any(String) as string });
  await markAll();
  expect(stopName(await stored()), "the same stop").toBe(name);
  const shadow = await stops.toShadow("ep_1");
  expect(shadow.endpoint).toMatchObject({ mode: "shadow" });
  expect(shadow.endpoint.stopping).toBeUndefined();
  const position = await stops.positionOf(shadow);
  expect(await stops.positionOf(await stops.toShadow("ep_1")), "asked again").toEqual(position);
  expect(queue.waiting).toBe(0);
});

test("CUT-1: an endpoint that does not take what is queued stays stopping, until it is resumed", async () => {
  const made = await rig();
  made.waiting = 3;
  await expect(made.stops.toShadow("ep_1")).rejects.toThrow("256 slots");
  await made.markAll();
  await expect(made.stops.toShadow("ep_1")).rejects.toThrow("3 changes that are queued for it are not delivered yet");
  const { endpoint, version } = await made.stored();
  const { stopping: _stopping, ...resumed } = endpoint;
  await made.store.change(resumed, version);
  made.waiting = 0;
  // Another stop: the places of the first one mean nothing to it.
  await expect(made.stops.toShadow("ep_1")).rejects.toThrow("the readers of 256 slots");
});

test("CUT-1: a stop whose places were lost between its last two reads of them waits for the readers again", async () => {
  const { stops, log, stored, markAll } = await rig();
  await expect(stops.toShadow("ep_1")).rejects.toThrow("256 slots");
  await markAll();
  const name = stopName(await stored()) ?? "";
  const cursors = log.cursors.bind(log);
  vi.spyOn(log, "cursors").mockImplementationOnce(async (...asked) => {
    const all = await cursors(...asked);
    await log.saveCursors([{ slot: 7, name, place: undefined }]);
    return all;
  });
  await expect(stops.toShadow("ep_1")).rejects.toThrow("the readers of 1 slots");
  expect((await stored()).endpoint.mode).toBe("live");
  await markAll();
  expect((await stops.toShadow("ep_1")).endpoint.mode).toBe("shadow");
});

test("CUT-1: calls that wait are bounded, and end with their process", async () => {
  const { stops, store } = await rig({}, 60_000);
  await store.create(plainEndpoint({ id: "ep_2", mode: "shadow" }));
  const calls = Array.from({ length: 33 }, async () => stops.toShadow("ep_1").catch((error: unknown) => error));
  expect(await calls[32]).toMatchObject({ code: "rate_limited" });
  expect((await stops.toShadow("ep_2")).endpoint.mode, "a shadow has nothing to wait for").toBe("shadow");
  await stops.stop();
  for (const error of await Promise.all(calls.slice(0, 32))) expect(error).toMatchObject({ code: "conflict" });
});

test("CUT-1: a seek ends a stop: the places that were stored for it are those of another generation", async () => {
  const { stops, store, log, stored, markAll } = await rig();
  await expect(stops.toShadow("ep_1")).rejects.toThrow("256 slots");
  await markAll();
  await new EndpointMoves({ store, log, offsetOf: async () => 0 }).seek("ep_1", "start");
  expect(stopName(await stored())).toBeUndefined();
  await expect(stops.toShadow("ep_1")).rejects.toThrow("256 slots");
});

test.each(["paused", "disabled"] as const)("CUT-1: an endpoint that is %s is not stopped", async (halted) => {
  const { stops } = await rig({ halted });
  await expect(stops.toShadow("ep_1")).rejects.toThrow(`the endpoint is ${halted}: resume it`);
});

test.each(["paused", "disabled"] as const)(
  "CUT-1: a PATCH of an endpoint that is %s waits for readers that may still queue",
  async (halted) => {
    const made = await rig({ halted });
    const patch = async (): Promise<StoredEndpoint> => made.stops.toShadow("ep_1", { mayBeHalted: true });
    await expect(patch()).rejects.toThrow("the readers of 256 slots");
    await made.markAll();
    made.waiting = 1;
    await expect(patch()).rejects.toThrow(`the endpoint is ${halted}: resume it`);
    const { endpoint } = await made.stored();
    expect([endpoint.mode, endpoint.halted, endpoint.stopping]).toEqual(["live", halted, undefined]);
    made.waiting = 0;
    await expect(patch()).rejects.toThrow("the readers of 256 slots");
    await made.markAll();
    expect((await patch()).endpoint.mode).toBe("shadow");
  },
);

test("CUT-1: a PATCH makes no shadow of an endpoint that another call made live again meanwhile", () => {
  const stored = (more: Partial<Endpoint>): StoredEndpoint => storedEndpoint({ endpoint: plainEndpoint(more) });
  for (const more of [{}, { halted: "paused" }] as const) {
    expect(() => asStopped(stored(more))).toThrow("live again meanwhile");
  }
  const shadow = stored({ mode: "shadow" });
  expect(asStopped(shadow)).toBe(shadow);
});

describe("what a shadow was sent", () => {
  const [busy, quiet] = ["board:1", "board:2"];
  const stored = storedEndpoint({ endpoint: plainEndpoint({ mode: "shadow" }) });
  let log: MemoryChangeLog;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["Date"] });
    log = new MemoryChangeLog();
    publish(busy, 1, 100_000);
    publish(busy, 2, 160_000);
    publish(quiet, 1, 165_000);
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function publish(channel: string, offset: number, at: number): void {
    vi.setSystemTime(at);
    const retention = { maxBytes: 1e9, maxSeconds: 1e6, unclaimedSeconds: 1e6 };
    log.append({ channel, epoch: "e", offset, prev: offset - 1, event: "moved", data: "0" }, retention);
  }

  async function sent(places: readonly Place[]): Promise<string[]> {
    const slots = [busy, quiet].map(slotOf);
    const name = cursorName(stored);
    await log.saveCursors(slots.map((slot, at) => ({ slot, name, place: places[at] })));
    const lines: string[] = [];
    for await (const { text } of ledgerLines({ log, tables: noTables }, stored, { sentMs: 60_000 })) {
      const { channel, offset } = JSON.parse(text) as { channel: string; offset: number };
      lines.push(`${channel} ${offset}`);
    }
    return lines.toSorted();
  }

  test("CUT-3: it is counted back from the position, however late it is asked for", async () => {
    publish(busy, 3, 2_000_000);
    expect(await sent(["160000-2", "165000-1"])).toEqual(["board:1 2", "board:2 1"]);
  });

  test("CUT-3: it begins before the first change that was not sent, also where another slot is further", async () => {
    publish(quiet, 2, 300_000);
    expect(await sent(["100000-1", "300000-2"])).toEqual(["board:1 1", "board:2 1", "board:2 2"]);
  });
});
