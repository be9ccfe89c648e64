import { changeKeys } from "../channels/keys.ts";
import type { CellAccess, Cells } from "../redis/cells.ts";
import type { Argument } from "../redis/client.ts";
import { type Script, script } from "../redis/scripts.ts";
import { SlotGroups } from "../redis/slot-groups.ts";
import { everySlot } from "../redis/slots.ts";
import { TidegateError } from "../runtime/errors.ts";
import type { StoreState } from "../runtime/store-state.ts";
import type * as contract from "./contract.ts";
import { maxCursors, readerLeaseMs } from "./contract.ts";
import { timeOf } from "./places.ts";

type ReadReply = [gapFrom: string, gapTo: string, place: string, newest: string, ...entries: string[]];
type FiguresReply = [changes: number, bytes: string, oldestAt: string, newest: string] | [];

const readScript = changeScript<ReadReply[]>("read-changes.lua");
const figuresScript = changeScript<FiguresReply[]>("change-figures.lua");
const takeScript = changeScript<number[]>("take-readers.lua");
const extendScript = changeScript<(0 | 1)[]>("extend-readers.lua");
const saveScript = changeScript<(0 | 1)[]>("save-cursors.lua");
const keepScript = changeScript<never[]>("keep-changes.lua");
const cursorsScript = changeScript<string[]>("read-cursors.lua");

/** Of a cluster: each is read by a call of its own, up to the bounds of the whole read. */
const slotsAtOnce = 16;

/** Its keys are {@link scriptKeys}. */
function changeScript<Reply>(file: string): Script<Reply> {
  return script<Reply>(new URL(file, import.meta.url), 2);
}

/** The change log on Redis 7: standalone, Sentinel, Cluster, or several cells. publish.lua appends. */
export class RedisChangeLog implements contract.ChangeLog {
  readonly #cells: Cells;
  readonly #listeners: contract.ChangeListener[] = [];
  readonly #leaseMs: number;
  readonly #groups: SlotGroups;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(cells: Cells, options: { leaseMs?: number } = {}) {
    this.#cells = cells;
    this.#leaseMs = options.leaseMs ?? readerLeaseMs;
    this.#groups = new SlotGroups(cells, { keys: scriptKeys, prefix: (root, slot) => changeKeys(root, slot).log });
  }

  get state(): StoreState {
    return this.#cells.state;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async read(
    queries: readonly contract.SlotQuery[],
    bounds: contract.ReadBounds,
  ): Promise<readonly contract.SlotRead[]> {
    const bySlot = new Map(queries.map((query) => [query.slot, query]));
    const slots = [...bySlot.keys()];
    const atOnce = this.#cells.fleet.spansSlots ? slots.length : slotsAtOnce;
    const reads: contract.SlotRead[] = [];
    let { limit, maxBytes } = bounds;
    for (let at = 0; at < slots.length && limit > 0 && maxBytes > 0; at += atOnce) {
      const wave = slots.slice(at, at + atOnce);
      const found = await this.#readWave(wave, bySlot, { ...bounds, limit, maxBytes });
      for (const read of found) {
        if (limit <= 0 || maxBytes <= 0) return reads;
        reads.push(cut(read, limit));
        limit -= read.changes.length;
        for (const { data } of read.changes) maxBytes -= data.length;
      }
      if (found.length < wave.length) break;
    }
    return reads;
  }

  async listen(listener: contract.ChangeListener): Promise<void> {
    this.#listeners.push(listener);
    if (this.#listeners.length > 1) return;
    const { root } = this.#cells.fleet;
    this.#cells.listen({
      onMessage: (topic, channel) => {
        const slot = slotOfNews(root, topic);
        if (slot !== undefined) for (const each of this.#listeners) each.onAppended(slot, channel);
      },
      onRestored: () => {
        for (const each of this.#listeners) each.onRestored();
      },
    });
    const subscribed = everySlot.map(async (slot) => {
      // Where Redis is away the topic is subscribed once it is back, and the listeners hear of it (onRestored).
      await this.#cells.subscribe(slot, changeKeys(root, slot).news).catch(() => undefined);
    });
    await Promise.all(subscribed);
  }

  async takeLeases(slots: readonly number[], holder: string): Promise<readonly contract.ReaderLease[]> {
    const asked = slots.map((slot) => ({ slot }));
    const fences = await this.#eachReached(takeScript, asked, [holder, this.#leaseMs]);
    return slots.flatMap((slot, index) => (fences[index] ? [{ slot, fence: fences[index] }] : []));
  }

  async extendLeases(leases: readonly contract.ReaderLease[]): Promise<readonly (boolean | undefined)[]> {
    const held = await this.#eachReached(extendScript, leases, [this.#leaseMs], ({ fence }) => [fence]);
    return held.map((reply) => (reply === undefined ? undefined : reply === 1));
  }

  async releaseLeases(leases: readonly contract.ReaderLease[]): Promise<void> {
    await this.#each(extendScript, leases, [0], ({ fence }) => [fence]);
  }

  async saveCursors(changes: readonly contract.CursorChange[]): Promise<readonly boolean[]> {
    const saved = await this.#each(saveScript, changes, [maxCursors], ({ name, place, lease }) => [
      ...[name, place ?? "", lease?.fence ?? ""],
    ]);
    return saved.map((reply) => reply === 1);
  }

  async keep(name: string, places: readonly { slot: number; place: contract.Place }[]): Promise<void> {
    await this.#each(keepScript, places, [name, maxCursors], ({ place }) => [timeOf(place)]);
  }

  async cursors(slots: readonly number[], name: string): Promise<readonly contract.SlotCursor[]> {
    const asked = slots.map((slot) => ({ slot }));
    const places = await this.#each(cursorsScript, asked, [name]);
    return slots.flatMap((slot, index) => (places[index] ? [{ slot, name, place: places[index] }] : []));
  }

  async figures(): Promise<readonly contract.SlotFigures[]> {
    const asked = everySlot.map((slot) => ({ slot }));
    const replies = await this.#each(figuresScript, asked, []);
    return replies.flatMap((reply, slot) => {
      if (reply.length === 0) return [];
      const [changes, bytes, oldestAt, newest] = reply;
      const kept = changes > 0;
      return [
        { slot, changes, bytes: kept ? Number(bytes) : 0, oldestAt: kept ? Number(oldestAt) : undefined, newest },
      ];
    });
  }

  /** In the order of the slots. Those of a Redis that is out of reach are left out, unless the others have nothing. */
  async #readWave(
    slots: readonly number[],
    queries: ReadonlyMap<number, contract.SlotQuery>,
    { limit, maxBytes, channels = { names: [], prefixes: [] } }: contract.ReadBounds,
  ): Promise<contract.SlotRead[]> {
    const { names, prefixes } = channels;
    const { results, unreached } = await this.#groups.ask(slots, async (cell, group) => {
      const asked = group.flatMap((slot) => {
        const query = queries.get(slot);
        return query ? [changeKeys(cell.root, slot).log, textOf(query.from)] : [];
      });
      const values = [limit, maxBytes, names.length, ...names, prefixes.length, ...prefixes, ...asked];
      const replies = await cell.run(readScript, ...scriptKeys(cell, group[0] ?? 0), ...values);
      return replies.map((reply, index) => toSlotRead(group[index] ?? 0, reply));
    });
    const reads = new Map(results.flat().map((read) => [read.slot, read]));
    const [failed] = unreached;
    if (failed && ![...reads.values()].some(({ changes, gap }) => changes.length > 0 || gap)) throw failed.error;
    return slots.flatMap((slot) => reads.get(slot) ?? []);
  }

  /** @returns a reply for each entry, in order. */
  async #each<Entry extends { readonly slot: number }, Reply>(
    script: Script<Reply[]>,
    entries: readonly Entry[],
    common: readonly Argument[],
    of: (entry: Entry) => readonly Argument[] = () => [],
  ): Promise<Reply[]> {
    return Promise.all(this.#groups.each(script, entries, { common, of, replies: (answers) => answers }));
  }

  /** As `#each`; undefined for entries whose slot cannot be reached. */
  async #eachReached<Entry extends { readonly slot: number }, Reply>(
    script: Script<Reply[]>,
    entries: readonly Entry[],
    common: readonly Argument[],
    of: (entry: Entry) => readonly Argument[] = () => [],
  ): Promise<(Reply | undefined)[]> {
    const replies = await Promise.allSettled(
      this.#groups.each(script, entries, { common, of, replies: (answers) => answers }),
    );
    return replies.map((reply) => {
      if (reply.status === "fulfilled") return reply.value;
      if (reply.reason instanceof TidegateError) return undefined;
      throw reply.reason;
    });
  }
}

/** As for queues: `none` makes a cluster refuse the script while the hash slot moves, when only a part of the keys is at one server. */
function scriptKeys(cell: CellAccess, slot: number): [state: string, none: string] {
  const { log, state } = changeKeys(cell.root, slot);
  return [state, `${log}:none`];
}

/** The slot of a topic of news; undefined for other topics. */
function slotOfNews(root: string, topic: string): number | undefined {
  if (!topic.startsWith(root)) return undefined;
  const [, slot] = /^:\{(\d+)\}:changes:news$/.exec(topic.slice(root.length)) ?? [];
  return slot === undefined ? undefined : Number(slot);
}

function textOf(from: contract.ReadFrom): Argument {
  if (from.kind === "time") return from.at;
  return from.kind === "after" ? from.place : from.kind;
}

function toSlotRead(slot: number, [gapFrom, gapTo, place, newest, ...entries]: ReadReply): contract.SlotRead {
  const changes: contract.Change[] = [];
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
function cut(read: contract.SlotRead, limit: number): contract.SlotRead {
  const changes = read.changes.slice(0, limit);
  const last = changes.at(-1);
  return changes.length < read.changes.length && last ? { ...read, changes, place: last.place } : read;
}
