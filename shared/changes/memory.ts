import type { ChangeRetention, Publication, RowName } from "../channels/contract.ts";
import type { ChangeAppender } from "../channels/memory.ts";
import { slotOf } from "../redis/slots.ts";
import type * as contract from "./contract.ts";
import { maxCursors, placeBeforeAll, readerLeaseMs } from "./contract.ts";
import { bytesOf, endedLog, readSlot, type SlotLog, trim } from "./memory-slot.ts";
import { endedRead, timeOf } from "./places.ts";
import { ReadRoom } from "./read-room.ts";

/** The change log of a single process, lost when it ends. */
export class MemoryChangeLog implements contract.ChangeLog, ChangeAppender {
  readonly state = "ok";
  readonly #logs = new Map<number, SlotLog>();
  readonly #listeners: contract.ChangeListener[] = [];
  readonly #leaseMs: number;
  #fence = 0;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(options: { leaseMs?: number } = {}) {
    this.#leaseMs = options.leaseMs ?? readerLeaseMs;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  append(
    { row, ...published }: Publication & { channel: string; epoch: string; row?: RowName; origin?: string },
    retention: ChangeRetention,
  ): void {
    const { channel } = published;
    const slot = slotOf(channel);
    const log = this.#log(slot);
    const at = Math.max(Date.now(), timeOf(log.newest));
    log.newest = `${at}-${++log.count}`;
    const change: contract.Change = { place: log.newest, at, ...published };
    if (row) log.ofRows.set(change, row);
    log.changes.push(change);
    log.bytes += bytesOf(change);
    log.maxSeconds = retention.maxSeconds;
    trim(log, retention);
    for (const listener of this.#listeners) listener.onAppended(slot, channel);
  }

  async read(
    queries: readonly contract.SlotQuery[],
    bounds: contract.ReadBounds,
  ): Promise<readonly contract.SlotRead[]> {
    const reads: contract.SlotRead[] = [];
    const room = new ReadRoom(bounds);
    for (const { slot, from, lease } of queries) {
      if (room.isUsedUp) break;
      if (lease && !this.#isHeld(lease)) {
        reads.push(endedRead(slot));
        continue;
      }
      const { limit, maxBytes } = room;
      const read = room.take(readSlot(slot, this.#log(slot), from, { ...bounds, limit, maxBytes }));
      if (read) reads.push(read);
    }
    return reads;
  }

  async listen(listener: contract.ChangeListener): Promise<void> {
    this.#listeners.push(listener);
  }

  async takeLeases(slots: readonly number[], holder: string): Promise<readonly contract.ReaderLease[]> {
    return slots.flatMap((slot) => {
      const log = this.#log(slot);
      const isHeld = log.reader && log.reader.holder !== holder && log.reader.until > performance.now();
      if (isHeld) return [];
      log.reader = { holder, fence: ++this.#fence, until: performance.now() + this.#leaseMs };
      return [{ slot, fence: log.reader.fence }];
    });
  }

  async extendLeases(leases: readonly contract.ReaderLease[]): Promise<readonly boolean[]> {
    return leases.map((lease) => this.#extend(lease, this.#leaseMs));
  }

  async releaseLeases(leases: readonly contract.ReaderLease[]): Promise<void> {
    for (const lease of leases) this.#extend(lease, 0);
  }

  async saveCursors(changes: readonly contract.CursorChange[]): Promise<readonly boolean[]> {
    return changes.map(({ slot, name, place, lease }) => {
      if (lease && !this.#isHeld(lease)) return false;
      const { cursors } = this.#log(slot);
      if (place === undefined) cursors.delete(name);
      else if (cursors.size >= maxCursors && !cursors.has(name)) return false;
      else cursors.set(name, place);
      return true;
    });
  }

  async keep(name: string, places: readonly { slot: number; place: contract.Place }[]): Promise<void> {
    for (const { slot, place } of places) {
      const { kept } = this.#log(slot);
      if (kept.size < maxCursors || kept.has(name)) kept.set(name, timeOf(place));
    }
  }

  async cursors(slots: readonly number[], name: string): Promise<readonly contract.SlotCursor[]> {
    return slots.flatMap((slot) => {
      const place = this.#logs.get(slot)?.cursors.get(name);
      return place === undefined ? [] : [{ slot, name, place }];
    });
  }

  async cursorsOf(slot: number): Promise<contract.CursorPart> {
    const cursors = [...this.#log(slot).cursors].map(([name, place]) => ({ slot, name, place }));
    return { cursors, next: undefined };
  }

  async figures(): Promise<readonly contract.SlotFigures[]> {
    return [...this.#logs.keys()].flatMap((slot) => {
      const { bytes, changes, removed, newest, count, rowBytes } = this.#log(slot);
      if (count === 0) return [];
      return [{ slot, changes: changes.length - removed, bytes, oldestAt: changes[removed]?.at, newest, rowBytes }];
    });
  }

  #log(slot: number): SlotLog {
    let log = this.#logs.get(slot);
    if (!log) {
      const cursors = { cursors: new Map(), kept: new Map(), reader: undefined };
      log = { ...endedLog(placeBeforeAll), count: 0, newest: placeBeforeAll, ...cursors, maxSeconds: Infinity };
      this.#logs.set(slot, log);
    }
    if (timeOf(log.newest) < Date.now() - log.maxSeconds * 1000) {
      Object.assign(log, endedLog(log.newest) satisfies Partial<SlotLog>);
    }
    return log;
  }

  #isHeld({ slot, fence }: contract.ReaderLease): boolean {
    const reader = this.#logs.get(slot)?.reader;
    return reader?.fence === fence && reader.until > performance.now();
  }

  #extend(lease: contract.ReaderLease, leaseMs: number): boolean {
    const reader = this.#logs.get(lease.slot)?.reader;
    if (!reader || !this.#isHeld(lease)) return false;
    reader.until = performance.now() + leaseMs;
    return true;
  }
}
