import { changeKeys } from "../channels/keys.ts";
import type { Cells } from "../redis/cells.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { type Script, script } from "../redis/scripts.ts";
import { runPerEntry } from "../redis/slot-calls.ts";
import { slotCount } from "../redis/slots.ts";
import { orBrokerUnavailable } from "../redis/unavailable.ts";
import { type StoreState, worstState } from "../runtime/store-state.ts";
import {
  type Change,
  type ChangeListener,
  type ChangeLog,
  type CursorChange,
  maxCursors,
  type Place,
  type ReadBounds,
  type ReaderLease,
  readerLeaseMs,
  type ReadFrom,
  type SlotCursor,
  type SlotFigures,
  type SlotQuery,
  type SlotRead,
} from "./contract.ts";
import { timeOf } from "./places.ts";

type Argument = string | number;
type ReadReply = [gapFrom: string, gapTo: string, place: string, newest: string, ...entries: string[]];
type FiguresReply = [changes: number, bytes: string, oldestAt: string, newest: string] | [];

const readScript = changeScript<ReadReply[]>("read-changes.lua");
const figuresScript = changeScript<FiguresReply[]>("change-figures.lua");
const takeScript = changeScript<number[]>("take-readers.lua");
const extendScript = changeScript<(0 | 1)[]>("extend-readers.lua");
const saveScript = changeScript<(0 | 1)[]>("save-cursors.lua");
const keepScript = changeScript<never[]>("keep-changes.lua");
const cursorsScript = changeScript<string[]>("read-cursors.lua");

const everySlot = Array.from({ length: slotCount }, (_, slot) => slot);
/** Calls that a read has under way at once. In a cluster each reads one slot, up to the bounds of the whole read. */
const groupsAtOnce = 16;

/** Its keys are {@link scriptKeys}. */
function changeScript<Reply>(file: string): Script<Reply> {
  return script<Reply>(new URL(file, import.meta.url), 2);
}

/** The change log on Redis 7: standalone, Sentinel or Cluster. publish.lua appends. */
export class RedisChangeLog implements ChangeLog {
  readonly #cells: Cells;
  readonly #listeners: ChangeListener[] = [];
  readonly #leaseMs: number;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(cells: Cells, options: { leaseMs?: number } = {}) {
    this.#cells = cells;
    this.#leaseMs = options.leaseMs ?? readerLeaseMs;
  }

  get state(): StoreState {
    return worstState(this.#cells.all.map(({ state }) => state));
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async read(queries: readonly SlotQuery[], bounds: ReadBounds): Promise<readonly SlotRead[]> {
    const bySlot = new Map(queries.map((query) => [query.slot, query]));
    const groups = this.#cells.groups(queries.map(({ slot }) => slot));
    const reads: SlotRead[] = [];
    let { limit, maxBytes } = bounds;
    for (let at = 0; at < groups.length && limit > 0 && maxBytes > 0; at += groupsAtOnce) {
      const wave = groups.slice(at, at + groupsAtOnce);
      const replies = await Promise.all(
        wave.map(async ({ cell, slots }) => this.#readGroup(cell, slots, bySlot, { ...bounds, limit, maxBytes })),
      );
      for (const [index, group] of replies.entries()) {
        for (const read of group) {
          if (limit <= 0 || maxBytes <= 0) return reads;
          reads.push(cut(read, limit));
          limit -= read.changes.length;
          for (const { data } of read.changes) maxBytes -= data.length;
        }
        if (group.length < (wave[index]?.slots.length ?? 0)) return reads;
      }
    }
    return reads;
  }

  async listen(listener: ChangeListener): Promise<void> {
    this.#listeners.push(listener);
    if (this.#listeners.length > 1) return;
    for (const cell of this.#cells.all) {
      cell.topics.listen({
        onMessage: (topic, channel) => {
          const slot = slotOfNews(cell.root, topic);
          if (slot !== undefined) for (const each of this.#listeners) each.onAppended(slot, channel);
        },
        onRestored: () => {
          for (const each of this.#listeners) each.onRestored();
        },
      });
    }
    const subscribed = everySlot.map(async (slot) => {
      const cell = this.#cells.ofSlot(slot);
      // Where Redis is away the topic is subscribed once it is back, and the listeners hear of it (onRestored).
      await orBrokerUnavailable(cell.topics.subscribe(changeKeys(cell.root, slot).news)).catch(() => undefined);
    });
    await Promise.all(subscribed);
  }

  async takeLeases(slots: readonly number[], holder: string): Promise<readonly ReaderLease[]> {
    const fences = await this.#perEntry(
      takeScript,
      slots.map((slot) => ({ slot })),
      [holder, this.#leaseMs],
      () => [],
    );
    return slots.flatMap((slot, index) => (fences[index] ? [{ slot, fence: fences[index] }] : []));
  }

  async extendLeases(leases: readonly ReaderLease[]): Promise<readonly boolean[]> {
    const held = await this.#perEntry(extendScript, leases, [this.#leaseMs], ({ fence }) => [fence]);
    return held.map((reply) => reply === 1);
  }

  async releaseLeases(leases: readonly ReaderLease[]): Promise<void> {
    await this.#perEntry(extendScript, leases, [0], ({ fence }) => [fence]);
  }

  async saveCursors(changes: readonly CursorChange[]): Promise<readonly boolean[]> {
    const saved = await this.#perEntry(saveScript, changes, [maxCursors], ({ name, place, lease }) => [
      ...[name, place ?? "", lease?.fence ?? ""],
    ]);
    return saved.map((reply) => reply === 1);
  }

  async keep(name: string, places: readonly { slot: number; place: Place }[]): Promise<void> {
    await this.#perEntry(keepScript, places, [name, maxCursors], ({ place }) => [timeOf(place)]);
  }

  async cursors(slots: readonly number[], name: string): Promise<readonly SlotCursor[]> {
    const asked = slots.map((slot) => ({ slot }));
    const places = await this.#perEntry(cursorsScript, asked, [name], () => []);
    return slots.flatMap((slot, index) => (places[index] ? [{ slot, name, place: places[index] }] : []));
  }

  async figures(): Promise<readonly SlotFigures[]> {
    const asked = everySlot.map((slot) => ({ slot }));
    const replies = await this.#perEntry(figuresScript, asked, [], () => []);
    return replies.flatMap((reply, slot) => {
      if (reply.length === 0) return [];
      const [changes, bytes, oldestAt, newest] = reply;
      const kept = changes > 0;
      return [
        { slot, changes, bytes: kept ? Number(bytes) : 0, oldestAt: kept ? Number(oldestAt) : undefined, newest },
      ];
    });
  }

  async #readGroup(
    cell: RedisConnections,
    slots: readonly number[],
    queries: ReadonlyMap<number, SlotQuery>,
    { limit, maxBytes, channels = { names: [], prefixes: [] } }: ReadBounds,
  ): Promise<SlotRead[]> {
    const { names, prefixes } = channels;
    const asked = slots.flatMap((slot) => {
      const query = queries.get(slot);
      return query ? [changeKeys(cell.root, slot).log, textOf(query.from)] : [];
    });
    const values = [limit, maxBytes, names.length, ...names, prefixes.length, ...prefixes, ...asked];
    const replies = await cell.run(readScript, ...scriptKeys(cell, slots[0] ?? 0), ...values);
    return replies.map((reply, index) => toSlotRead(slots[index] ?? 0, reply));
  }

  /** One script call for each group of slots. @returns a reply for each entry, in order. */
  async #perEntry<Entry extends { readonly slot: number }, Reply>(
    script: Script<Reply[]>,
    entries: readonly Entry[],
    common: readonly Argument[],
    values: (entry: Entry) => Argument[],
  ): Promise<Reply[]> {
    return runPerEntry(this.#cells, entries, {
      script,
      keys: scriptKeys,
      common,
      values: (entry, cell) => [changeKeys(cell.root, entry.slot).log, ...values(entry)],
    });
  }
}

/** As for queues: `none` makes a cluster refuse the script while the hash slot moves, when only a part of the keys is at one server. */
function scriptKeys(cell: RedisConnections, slot: number): [state: string, none: string] {
  const { log, state } = changeKeys(cell.root, slot);
  return [state, `${log}:none`];
}

/** The slot of a topic of news; undefined for other topics. */
function slotOfNews(root: string, topic: string): number | undefined {
  if (!topic.startsWith(root)) return undefined;
  const [, slot] = /^:\{(\d+)\}:changes:news$/.exec(topic.slice(root.length)) ?? [];
  return slot === undefined ? undefined : Number(slot);
}

function textOf(from: ReadFrom): Argument {
  if (from.kind === "time") return from.at;
  return from.kind === "after" ? from.place : from.kind;
}

function toSlotRead(slot: number, [gapFrom, gapTo, place, newest, ...entries]: ReadReply): SlotRead {
  const changes: Change[] = [];
  for (let at = 0; at < entries.length; at += 3) {
    const [id = "", head = "", data = ""] = entries.slice(at, at + 3);
    const [epoch = "", offset, prev, event = "", channel = ""] = head.split(" ");
    const position = { epoch, offset: Number(offset), prev: Number(prev) };
    changes.push({ place: id, at: timeOf(id), channel, ...position, event, data });
  }
  const gap = gapFrom === "" ? undefined : { from: Number(gapFrom), to: Number(gapTo) };
  return { slot, ...(gap && { gap }), changes, place, newest };
}

/** Leaves out changes past the limit. */
function cut(read: SlotRead, limit: number): SlotRead {
  const changes = read.changes.slice(0, limit);
  const last = changes.at(-1);
  return changes.length < read.changes.length && last ? { ...read, changes, place: last.place } : read;
}
