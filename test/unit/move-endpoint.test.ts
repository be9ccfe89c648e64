/** Where an endpoint continues that is moved to a change of a channel. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ChangePulls, type Pulled, type PullRequest } from "../../private-api/changes/change-pulls.ts";
import { parseChannels } from "../../private-api/changes/channel-filter.ts";
import { formatCursor, parseCursor } from "../../private-api/changes/pull-cursor.ts";
import { wants } from "../../private-api/endpoints/change-queue.ts";
import type { ChannelPlace } from "../../private-api/endpoints/channel-places.ts";
import { cursorName } from "../../private-api/endpoints/behind.ts";
import { ledgerLines } from "../../private-api/endpoints/ledger.ts";
import { EndpointMoves } from "../../private-api/endpoints/move-endpoint.ts";
import { EndpointStops } from "../../private-api/endpoints/stop-endpoint.ts";
import { type Change, placeBeforeAll } from "../../shared/changes/contract.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { MemoryEndpointStore } from "../../shared/endpoints/memory.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { quietLogger } from "../support/logger.ts";
import { plainEndpoint } from "../support/stored-endpoint.ts";
import { noTables } from "../support/table-rows.ts";

const channel = "board:1";
const slot = slotOf(channel);
const retention = { maxBytes: 1e9, maxSeconds: 1e6, unclaimedSeconds: 1e6, maxRowBytes: 1e9 };

let log: MemoryChangeLog;
let store: MemoryEndpointStore;
let moves: EndpointMoves;
/** Offset of the channel, as its broker has it. */
let present = 0;
/** Of the clock. */
let aheadMs = 0;
beforeEach(async () => {
  vi.spyOn(Date, "now").mockImplementation(() => Math.floor(performance.timeOrigin + performance.now()) + aheadMs);
  [log, store] = [new MemoryChangeLog(), new MemoryEndpointStore()];
  moves = new EndpointMoves({ store, log, offsetOf: async () => present });
  await store.create(plainEndpoint({ mode: "shadow" }));
  aheadMs += 10;
  present = 0;
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A millisecond each. @param given.maxBytes of the log: rows that leave it are noted @param given.to another channel */
function publish(
  epoch: string,
  first: number,
  last: number,
  given: { isRow?: boolean; maxBytes?: number; to?: string } = {},
): void {
  const { isRow = false, maxBytes = retention.maxBytes, to = channel } = given;
  for (let offset = first; offset <= last; offset++) {
    aheadMs++;
    log.append(
      {
        ...{ channel: to, epoch, offset, prev: offset - 1, event: "moved", data: "0" },
        ...(isRow && { row: { shard: "crm/1", id: String(offset) } }),
      },
      { ...retention, maxBytes },
    );
  }
}

async function changes(): Promise<readonly Change[]> {
  const [read] = await log.read([{ slot, from: { kind: "start" } }], { limit: 1_000, maxBytes: 1e9 });
  return read?.changes ?? [];
}

/** What it is sent of everything in the log after it went live. */
async function sentAfter(place: Omit<ChannelPlace, "channel">, others: "now" | "ledger"): Promise<string[]> {
  const live = await moves.goLive("ep_1", [{ channel, ...place }], others);
  publish("late", 1, 2);
  return (await changes()).flatMap((change) => (wants(live, change) ? [`${change.epoch} ${change.offset}`] : []));
}

test.each(["now", "ledger"] as const)(
  "EP-13: what a new epoch publishes follows an offset of the one before, others: %s",
  async (others) => {
    publish("early", 1, 5);
    expect(await sentAfter({ offset: 5 }, others)).toEqual(["late 1", "late 2"]);
  },
);

test("EP-13: an offset that the log has in two epochs needs the time of its change", async () => {
  publish("early", 1, 5);
  publish("middle", 1, 3);
  const { at = 0 } = (await changes()).find(({ epoch, offset }) => epoch === "early" && offset === 2) ?? {};
  await expect(sentAfter({ offset: 2 }, "ledger")).rejects.toMatchObject({ code: "conflict" });
  await expect(sentAfter({ offset: 2, at: at + 100 }, "ledger")).rejects.toMatchObject({ code: "history_trimmed" });
  const rest = ["early 3", "early 4", "early 5", "middle 1", "middle 2", "middle 3", "late 1", "late 2"];
  expect(await sentAfter({ offset: 2, at }, "ledger")).toEqual(rest);
});

test("EP-13: an offset that the channel's only epoch in the log has not come to is refused", async () => {
  publish("middle", 1, 3);
  await expect(sentAfter({ offset: 50 }, "now")).rejects.toMatchObject({ code: "conflict" });
  await expect(moves.seek("ep_1", { channel, offset: 50 })).rejects.toMatchObject({ code: "conflict" });
});

test("EP-12: a channel that is none of the endpoint's is refused", async () => {
  const errors = ["/to: other:1 is none of the endpoint's channels"];
  const refused = { code: "invalid_request", options: { errors } };
  await expect(moves.seek("ep_1", { channel: "other:1", offset: 0 })).rejects.toMatchObject(refused);
});

test("CUT-2: a gap is noticed also after more rows of the ledger than one read has", async () => {
  await log.saveCursors([{ slot, name: "endpoint/ep_1/0", place: placeBeforeAll }]);
  publish("early", 1, 1_500, { isRow: true, maxBytes: 1 });
  publish("early", 1_501, 1_501, { maxBytes: 1 });
  const whole = await moves.goLive("ep_1", [{ channel, offset: 1_499 }], "ledger");
  expect(whole.endpoint.after?.[channel]).toMatch(/-1499$/);
  await store.change({ ...whole.endpoint, mode: "shadow" }, whole.version);
  publish("early", 1_502, 1_502, { maxBytes: 1 });
  await expect(moves.goLive("ep_1", [{ channel, offset: 1_500 }], "ledger")).rejects.toMatchObject({
    code: "history_trimmed",
  });
});

describe("a shadow of one channel, while another slot loses changes", () => {
  /** In another slot. */
  const foreign = "board:2";
  let cursor = "";
  beforeEach(async () => {
    await store.create(plainEndpoint({ id: "ep_named", mode: "shadow", channels: [channel] }));
    const since = Date.now();
    publish("early", 1, 1);
    const places = new Map((await log.figures()).map(({ newest }) => [slot, newest]));
    cursor = formatCursor({ since, places, turn: slot });
    publish("early", 1, 3, { to: foreign, maxBytes: 1 });
  });

  test("EP-13: it goes live with a cursor of its channel", async () => {
    await expect(moves.goLive("ep_named", cursor, "now")).resolves.toMatchObject({ endpoint: { mode: "live" } });
    await expect(moves.goLive("ep_1", cursor, "now"), "one of all channels").rejects.toMatchObject({
      code: "history_trimmed",
    });
  });

  test("CUT-2: it goes live with its ledger, which lists no gap", async () => {
    const stored = await store.read("ep_named");
    if (!stored) throw new Error("no endpoint");
    const lines: unknown[] = [];
    for await (const { text } of ledgerLines({ log, tables: noTables }, stored, {})) lines.push(JSON.parse(text));
    expect(lines).toMatchObject([{ channel, offset: 1 }]);
    const live = await moves.goLive("ep_named", [{ channel, offset: 1 }], "ledger");
    expect(live.endpoint).toMatchObject({ mode: "live" });
  });
});

test("EP-13: an offset is refused where the log has lost all that follows it", async () => {
  present = 10;
  const move = async (offset: number): Promise<unknown> => moves.goLive("ep_1", [{ channel, offset }], "now");
  await expect(move(5)).rejects.toMatchObject({ code: "history_trimmed" });
  await expect(moves.seek("ep_1", { channel, offset: 9 })).rejects.toMatchObject({ code: "history_trimmed" });
  await expect(move(11), "a new epoch has not come to it").rejects.toMatchObject({ code: "conflict" });
  await expect(move(10)).resolves.toMatchObject({ endpoint: { mode: "live" } });
});

test("EP-13: the present offset decides also where the time of the change is given", async () => {
  const move = async (): Promise<unknown> => moves.goLive("ep_1", [{ channel, offset: 10, at: Date.now() }], "now");
  for (const other of [9, 11]) {
    present = other;
    await expect(move()).rejects.toMatchObject({ code: "history_trimmed" });
  }
  present = 10;
  await expect(move()).resolves.toMatchObject({ endpoint: { mode: "live" } });
});

test("EP-13: an offset is refused where something that follows it has left the log between rows", async () => {
  await log.saveCursors([{ slot, name: "endpoint/ep_1/0", place: placeBeforeAll }]);
  publish("early", 1, 3, { isRow: true, maxBytes: 1 });
  publish("early", 4, 6, { maxBytes: 1 });
  publish("early", 7, 7, { maxBytes: 1 });
  const query = { slot, from: { kind: "after", place: placeBeforeAll } } as const;
  const [read] = await log.read([query], { limit: 1_000, maxBytes: 1e9, withRows: true });
  const rows = read?.rows?.changes ?? [];
  expect(rows.map(({ offset }) => offset)).toEqual([1, 2, 3]);
  for (const { offset, at } of rows) {
    const moving = moves.goLive("ep_1", [{ channel, offset, at }], "now");
    await expect(moving).rejects.toMatchObject({ code: "history_trimmed" });
  }
  const live = await moves.goLive("ep_1", [{ channel, offset: 6 }], "now");
  expect(live.endpoint.mode).toBe("live");
});

/** What the readers of the slots would continue from. */
async function placesOfStored(): Promise<ReadonlySet<string>> {
  const stored = await store.read("ep_1");
  if (!stored) throw new Error("no endpoint");
  const cursors = await log.cursors([slot], cursorName(stored));
  return new Set(cursors.map(({ place }) => place));
}

describe("a cursor of a pull that named one channel", () => {
  const foreign = "board:2";
  const pulls = (): ChangePulls => new ChangePulls({ log, tables: noTables, logger: quietLogger });
  const pull = async (from: PullRequest["from"], channels: string): Promise<Pulled> =>
    pulls().pull({
      ...{ filter: parseChannels(channels), from, limit: 1_000, waitMs: 0, caller: "reader" },
      signal: new AbortController().signal,
    });
  const named = ({ channel: name, offset }: { channel: string; offset: number }): string => `${name} ${offset}`;
  const pulled = ({ items }: Pulled): string[] =>
    items.flatMap((item) => (item.kind === "change" ? [named(item.change)] : [item.kind]));
  /** What the shadow would be sent. */
  async function ledger(stored: StoredEndpoint): Promise<string[]> {
    const lines: string[] = [];
    for await (const { text } of ledgerLines({ log, tables: noTables }, stored, {})) {
      lines.push(named(JSON.parse(text) as { channel: string; offset: number }));
    }
    return lines;
  }

  test.each([
    ["from the end", (): PullRequest["from"] => ({ kind: "end" }), 3],
    ["from a time", (): PullRequest["from"] => ({ kind: "time", at: Date.now() }), 3],
    ["from the start", (): PullRequest["from"] => ({ kind: "start" }), 0],
  ])("EP-12: a cursor %s means the same to seek as to a pull of all channels", async (_from, begin, known) => {
    publish("early", 1, 2);
    publish("early", 1, 3, { to: foreign });
    // Older than the cursor by more than the clock is inexact.
    aheadMs += 10;
    const { cursor } = await pull(begin(), channel);
    expect(cursor.places.size).toBe(1);
    const check = async (expected: readonly string[]): Promise<void> => {
      const moved = await moves.seek("ep_1", { cursor: formatCursor(cursor) });
      expect((await ledger(moved)).toSorted()).toEqual(expected.toSorted());
      expect(pulled(await pull({ kind: "cursor", cursor }, "board:*")).toSorted()).toEqual(expected.toSorted());
    };
    const before = [1, 2, 3].slice(known).map((offset) => `${foreign} ${offset}`);
    await check(before);
    aheadMs += 10;
    publish("early", 3, 3);
    publish("early", 4, 5, { to: foreign });
    publish("early", 1, 1, { to: "board:3" });
    await check([...before, `${channel} 3`, `${foreign} 4`, `${foreign} 5`, "board:3 1"]);
  });

  test("CUT-1: a shadow that was moved to it has a position that a pull takes", async () => {
    publish("early", 1, 2);
    publish("early", 1, 3, { to: foreign });
    aheadMs += 10;
    const { cursor } = await pull({ kind: "end" }, channel);
    aheadMs += 10;
    publish("early", 4, 5, { to: foreign });
    const moved = await moves.seek("ep_1", { cursor: formatCursor(cursor) });
    const stops = new EndpointStops({ store, log, queues: { waitingOfSource: async () => 0 }, moves });
    const position = parseCursor((await stops.positionOf(moved)).after);
    if (!position) throw new Error("no cursor");
    const following = await pull({ kind: "cursor", cursor: position }, "board:*");
    expect(pulled(following)).toEqual([`${foreign} 4`, `${foreign} 5`]);
  });

  test("EP-13: a shadow goes live with it where the log has lost what came before it", async () => {
    publish("early", 1, 2);
    publish("early", 1, 3, { to: foreign, maxBytes: 1 });
    aheadMs += 10;
    const { cursor } = await pull({ kind: "end" }, channel);
    aheadMs += 10;
    publish("early", 4, 4, { to: foreign });
    const live = await moves.goLive("ep_1", formatCursor(cursor), "now");
    expect(await ledger({ ...live, endpoint: { ...live.endpoint, mode: "shadow" } })).toEqual([`${foreign} 4`]);
  });
});

test("EP-9: a move that is late stores no places for the move that was quicker", async () => {
  publish("early", 1, 5);
  const [first, last] = [(await changes())[0]?.place ?? "", (await changes()).at(-1)?.place ?? ""];
  const cursorOf = (place: string): string => formatCursor({ since: 1, places: new Map([[slot, place]]), turn: slot });
  const save = log.saveCursors.bind(log);
  const { promise: frozen, resolve: wake } = Promise.withResolvers<void>();
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  vi.spyOn(log, "saveCursors").mockImplementationOnce(async (cursors) => {
    arrive();
    await frozen;
    return save(cursors);
  });
  const late = moves.goLive("ep_1", cursorOf(last), "now");
  await arrived;
  await moves.goLive("ep_1", cursorOf(first), "now");
  expect(await placesOfStored()).toEqual(new Set([first]));
  wake();
  await expect(late).rejects.toMatchObject({ code: "conflict" });
  expect(await placesOfStored()).toEqual(new Set([first]));
  const names = (await log.cursorsOf(slot)).cursors.map(({ name }) => name);
  expect(names.length, "nothing is left of the late one").toBe(1);
});

test("EP-12: an endpoint that falls behind in another slot while it is moved skips nothing there", async () => {
  publish("early", 1, 5);
  const stored = await store.read("ep_1");
  if (!stored) throw new Error("no endpoint");
  const other = slotOf("board:2");
  await log.saveCursors([{ slot: other, name: "endpoints", place: "50-5" }]);
  const change = store.change.bind(store);
  vi.spyOn(store, "change").mockImplementationOnce(async (...given) => {
    await log.saveCursors([
      { slot: other, name: cursorName(stored), place: "60-6" },
      { slot: other, name: "endpoints", place: "80-8" },
    ]);
    return change(...given);
  });
  const moved = await moves.seek("ep_1", { channel, offset: 2 });
  expect(moved.generation).toBeGreaterThan(stored.generation);
  // From here on: changes that are queued already may come again.
  expect(await log.cursors([other], cursorName(moved))).toMatchObject([{ place: "50-5" }]);
  expect(await placesOfStored()).toEqual(new Set([(await changes())[1]?.place]));
});

test("EP-12: places of a move that was not completed are none of a later one", async () => {
  publish("early", 1, 5);
  const stored = await store.read("ep_1");
  if (!stored) throw new Error("no endpoint");
  await store.change({ ...stored.endpoint, mode: "live" }, stored.version);
  vi.spyOn(store, "change").mockRejectedValueOnce(new Error("the process was killed"));
  await expect(moves.seek("ep_1", "start")).rejects.toThrow("killed");
  await moves.seek("ep_1", "end");
  expect(await placesOfStored()).toEqual(new Set());
});

test.each([
  ["a slot is full", "rate_limited"],
  ["a Redis is away", "broker_unavailable"],
] as const)("EP-12: a move that cannot store all of its places leaves none, where %s", async (_case, code) => {
  publish("early", 1, 5);
  const save = log.saveCursors.bind(log);
  vi.spyOn(log, "saveCursors").mockImplementationOnce(async (cursors) => {
    const [, ...stored] = await save(cursors);
    if (code === "broker_unavailable") throw brokerUnavailable("one of them is away");
    return [false, ...stored];
  });
  await expect(moves.seek("ep_1", "start")).rejects.toMatchObject({ code });
  expect((await log.cursorsOf(slot)).cursors).toEqual([]);
});
