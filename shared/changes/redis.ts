import { changeKeys } from "../channels/keys.ts";
import type { CellAccess, Cells } from "../redis/cells.ts";
import type { Argument } from "../redis/client.ts";
import { type Script, script } from "../redis/scripts.ts";
import { SlotGroups, type UnreachedSlots } from "../redis/slot-groups.ts";
import { everySlot } from "../redis/slots.ts";
import { TidegateError } from "../runtime/errors.ts";
import type { StoreState } from "../runtime/store-state.ts";
import type * as contract from "./contract.ts";
import { firstCursors, maxCursors, readerLeaseMs } from "./contract.ts";
import { extendLeasesScript, takeLeasesScript } from "./lease-scripts.ts";
import { isAtTime, timeOf } from "./places.ts";
import { type ReadReply, toSlotRead } from "./read-reply.ts";
import { ReadRoom } from "./read-room.ts";

type FiguresReply = [changes: number, bytes: string, oldestAt: string, newest: string, rowBytes: string] | [];

const readScript = changeScript<ReadReply[]>("read-changes.lua", { isBatch: true });
const figuresScript = changeScript<FiguresReply[]>("change-figures.lua");
const saveScript = changeScript<(0 | 1)[]>("save-cursors.lua", { isBatch: true });
const keepScript = changeScript<never[]>("keep-changes.lua");
const cursorsScript = changeScript<string[]>("read-cursors.lua");

/** Of a cluster: each is read by a call of its own, up to the bounds of the whole read. */
const slotsAtOnce = 16;
/** Of one slot, about. */
const cursorsAtOnce = 500;

/** Its keys are {@link scriptKeys}. */
function changeScript<Reply>(file: string, options: { isBatch?: boolean } = {}): Script<Reply> {
  return script<Reply>(new URL(file, import.meta.url), 2, options);
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
    const atOnce = this.#cells.hasCluster ? slotsAtOnce : slots.length;
    const reads: contract.SlotRead[] = [];
    const unreached: UnreachedSlots[] = [];
    const room = new ReadRoom(bounds);
    for (let at = 0; at < slots.length && !room.isUsedUp; at += atOnce) {
      const wave = slots.slice(at, at + atOnce);
      const { limit, maxBytes } = room;
      const { found, failed } = await this.#readWave(wave, bySlot, { ...bounds, limit, maxBytes });
      unreached.push(...failed);
      // Each call of a wave may use all the room, so together they may have read too much.
      for (const each of found) {
        if (room.isUsedUp) return reads;
        const read = room.take(each);
        if (read) reads.push(read);
      }
      // A bound ended the read, unless slots are missing because they cannot be reached: these do not hold up the slots after them.
      if (found.length < wave.length && failed.length === 0) break;
    }
    const [missing] = unreached;
    if (missing && !reads.some(isNews)) throw missing.error;
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
    await Promise.all(everySlot.map(async (slot) => this.#cells.follow(slot, changeKeys(root, slot).news)));
  }

  async takeLeases(slots: readonly number[], holder: string): Promise<readonly contract.ReaderLease[]> {
    const asked = slots.map((slot) => ({ slot }));
    const fences = await this.#eachReached(takeLeasesScript, asked, [holder, this.#leaseMs]);
    return slots.flatMap((slot, index) => (fences[index] ? [{ slot, fence: fences[index] }] : []));
  }

  async extendLeases(leases: readonly contract.ReaderLease[]): Promise<readonly (boolean | undefined)[]> {
    const held = await this.#eachReached(extendLeasesScript, leases, [this.#leaseMs], ({ fence }) => [fence]);
    return held.map((reply) => (reply === undefined ? undefined : reply === 1));
  }

  async releaseLeases(leases: readonly contract.ReaderLease[]): Promise<void> {
    await this.#each(extendLeasesScript, leases, [0], ({ fence }) => [fence]);
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

  async cursorsOf(slot: number, from: string): Promise<contract.CursorPart> {
    const cell = this.#cells.ofSlot(slot);
    const key = `${changeKeys(cell.root, slot).log}:cursors`;
    const [next, found] = await cell.run<[next: string, found: string[]]>("hscan", key, from, "COUNT", cursorsAtOnce);
    // Names and places in turn.
    const cursors = found.flatMap((name, at) => (at % 2 === 0 ? [{ slot, name, place: found[at + 1] ?? "" }] : []));
    return { cursors, next: next === firstCursors ? undefined : next };
  }

  async figures(): Promise<readonly contract.SlotFigures[]> {
    const asked = everySlot.map((slot) => ({ slot }));
    const replies = await this.#each(figuresScript, asked, []);
    return replies.flatMap((reply, slot) => {
      if (reply.length === 0) return [];
      const [changes, bytes, oldestAt, newest, rowBytes] = reply;
      const kept = changes > 0;
      return [
        {
          ...{ slot, changes, newest, rowBytes: Number(rowBytes) },
          ...{ bytes: kept ? Number(bytes) : 0, oldestAt: kept ? Number(oldestAt) : undefined },
        },
      ];
    });
  }

  /** In the order of the slots. Those of a Redis that is out of reach are left out. */
  async #readWave(
    slots: readonly number[],
    queries: ReadonlyMap<number, contract.SlotQuery>,
    { limit, maxBytes, channels = { names: [], prefixes: [] }, withRows = false }: contract.ReadBounds,
  ): Promise<{ found: contract.SlotRead[]; failed: UnreachedSlots[] }> {
    const { names, prefixes } = channels;
    const { results, unreached } = await this.#groups.ask(slots, async (cell, group) => {
      const asked = group.flatMap((slot) => {
        const query = queries.get(slot);
        return query ? [changeKeys(cell.root, slot).log, textOf(query.from), query.lease?.fence ?? ""] : [];
      });
      const values = [
        limit,
        maxBytes,
        withRows ? 1 : 0,
        names.length,
        ...names,
        prefixes.length,
        ...prefixes,
        ...asked,
      ];
      const replies = await cell.run(readScript, ...scriptKeys(cell, group[0] ?? 0), ...values);
      return replies.map((reply, index) => toSlotRead(group[index] ?? 0, reply));
    });
    const reads = new Map(results.flat().map((read) => [read.slot, read]));
    return { found: slots.flatMap((slot) => reads.get(slot) ?? []), failed: unreached };
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
  if (from.kind !== "after") return from.kind;
  return isAtTime(from.place) ? timeOf(from.place) : from.place;
}

function isNews({ changes, rows, gap, hasEnded }: contract.SlotRead): boolean {
  return changes.length > 0 || rows !== undefined || gap !== undefined || hasEnded === true;
}
