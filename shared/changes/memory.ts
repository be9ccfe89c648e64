import { changeOverheadBytes, type ChangeRetention, type Publication } from "../channels/contract.ts";
import type { ChangeAppender } from "../channels/memory.ts";
import { slotOf } from "../redis/slots.ts";
import type * as contract from "./contract.ts";
import { maxCursors, placeBeforeAll, readerLeaseMs } from "./contract.ts";
import { changesBetween, comparePlaces, timeOf } from "./places.ts";

interface SlotLog {
  changes: contract.Change[];
  /** Changes removed from the front of `changes`, whose places in the array are not free yet. */
  removed: number;
  bytes: number;
  newest: contract.Place;
  /** The last change that was removed. */
  trimmed: contract.Place;
  count: number;
  cursors: Map<string, contract.Place>;
  /** Times of places, of {@link ChangeLog.keep}. */
  kept: Map<string, number>;
  reader: { holder: string; fence: number; until: number } | undefined;
  /** Of the last change: the log ends that long after it. */
  maxSeconds: number;
}

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
    { channel, epoch, offset, prev, event, data }: Publication & { channel: string; epoch: string },
    retention: ChangeRetention,
  ): void {
    const slot = slotOf(channel);
    const log = this.#log(slot);
    const at = Math.max(Date.now(), timeOf(log.newest));
    log.newest = `${at}-${++log.count}`;
    const change = { place: log.newest, at, channel, epoch, offset, prev, event, data };
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
    let { limit, maxBytes } = bounds;
    for (const { slot, from } of queries) {
      if (limit <= 0 || maxBytes <= 0) break;
      const read = readSlot(slot, this.#log(slot), from, { ...bounds, limit, maxBytes });
      reads.push(read);
      limit -= read.changes.length;
      for (const { data } of read.changes) maxBytes -= Buffer.byteLength(data);
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

  async figures(): Promise<readonly contract.SlotFigures[]> {
    return [...this.#logs.keys()].flatMap((slot) => {
      const { bytes, changes, removed, newest, count } = this.#log(slot);
      if (count === 0) return [];
      return [{ slot, changes: changes.length - removed, bytes, oldestAt: changes[removed]?.at, newest }];
    });
  }

  #log(slot: number): SlotLog {
    let log = this.#logs.get(slot);
    if (!log) {
      const empty = { changes: [], removed: 0, bytes: 0, count: 0, newest: placeBeforeAll, trimmed: placeBeforeAll };
      log = { ...empty, cursors: new Map(), kept: new Map(), reader: undefined, maxSeconds: Infinity };
      this.#logs.set(slot, log);
    }
    if (timeOf(log.newest) < Date.now() - log.maxSeconds * 1000) {
      Object.assign(log, { changes: [], removed: 0, bytes: 0, trimmed: log.newest } satisfies Partial<SlotLog>);
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

function bytesOf({ channel, epoch, offset, prev, event, data }: contract.Change): number {
  const head = `${epoch} ${offset} ${prev} ${event} ${channel}`;
  return head.length + Buffer.byteLength(data) + changeOverheadBytes;
}

/** Removes what is past the caps; what no live cursor needs, after `unclaimedSeconds`. */
function trim(log: SlotLog, { maxBytes, maxSeconds, unclaimedSeconds }: ChangeRetention): void {
  const now = Date.now();
  const oldestKept = now - maxSeconds * 1000;
  const claimable = now - unclaimedSeconds * 1000;
  const last = log.changes.length - 1;
  let keptFrom: number | undefined;
  for (; log.removed < last; log.removed++) {
    const oldest = log.changes[log.removed];
    if (!oldest) break;
    if (log.bytes <= maxBytes && oldest.at >= oldestKept) {
      if (oldest.at >= claimable) break;
      keptFrom ??= Math.min(claimable, slowest(log, oldestKept));
      if (oldest.at >= keptFrom) break;
    }
    log.bytes -= bytesOf(oldest);
    log.trimmed = oldest.place;
  }
  if (log.removed * 2 > log.changes.length) {
    log.changes.splice(0, log.removed);
    log.removed = 0;
  }
}

function slowest({ cursors, kept }: SlotLog, oldestKept: number): number {
  for (const [name, time] of kept) if (time < oldestKept) kept.delete(name);
  return Math.min(...[...cursors.values()].map(timeOf), ...kept.values());
}

function readSlot(
  slot: number,
  log: SlotLog,
  from: contract.ReadFrom,
  { limit, maxBytes, channels }: contract.ReadBounds,
): contract.SlotRead {
  const { changes, newest } = log;
  const beginning = begin(log, from);
  const { gap } = beginning;
  let { place } = beginning;
  const read: contract.Change[] = [];
  let bytes = 0;
  for (let at = beginning.at; at < changes.length; at++) {
    const change = changes[at];
    if (!change) break;
    if (!channels || isAskedFor(change.channel, channels)) {
      const size = Buffer.byteLength(change.data);
      if (read.length >= limit || (read.length > 0 && bytes + size > maxBytes)) break;
      bytes += size;
      read.push(change);
    }
    place = change.place;
  }
  return { slot, ...(gap && { gap }), changes: read, place, newest };
}

/** The index of the first change to read, the place before it, and what is missing before it. */
function begin(log: SlotLog, from: contract.ReadFrom): { at: number; place: contract.Place; gap?: contract.Gap } {
  const { changes, removed, newest, trimmed } = log;
  if (from.kind === "end") return { at: changes.length, place: newest };
  if (from.kind === "start") return { at: removed, place: trimmed };
  if (from.kind === "time") {
    const at = firstSince(changes, removed, from.at);
    if (at === changes.length) return { at, place: newest };
    const isTrimmed = timeOf(trimmed) >= from.at;
    const place = at === removed ? trimmed : (changes[at - 1]?.place ?? trimmed);
    return { at, place, ...(isTrimmed && { gap: { from: from.at, to: timeOf(trimmed) } }) };
  }
  const { place } = from;
  if (place === trimmed) return { at: removed, place };
  if (comparePlaces(place, trimmed) < 0) {
    const since = place === placeBeforeAll ? trimmed : place;
    return { at: removed, place: trimmed, gap: { from: timeOf(since), to: timeOf(trimmed) } };
  }
  const at = changes.length - changesBetween(place, newest);
  if (at > removed && changes[at - 1]?.place === place) return { at, place };
  return { at: removed, place: trimmed, gap: { from: timeOf(place), to: Date.now() } };
}

/** The index of the first change of this time or later, from `from` on. */
function firstSince(changes: readonly contract.Change[], from: number, time: number): number {
  let [low, high] = [from, changes.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((changes[middle]?.at ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isAskedFor(channel: string, { names, prefixes }: NonNullable<contract.ReadBounds["channels"]>): boolean {
  return names.includes(channel) || prefixes.some((prefix) => channel.startsWith(prefix));
}
