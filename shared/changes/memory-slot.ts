/** The change log of one slot in memory: what it keeps, and how it is read. Pure. */
import { changeOverheadBytes, type ChangeRetention, type RowName } from "../channels/contract.ts";
import type * as contract from "./contract.ts";
import { placeBeforeAll } from "./contract.ts";
import { changesBetween, comparePlaces, isAtTime, timeOf } from "./places.ts";

/** Consecutive changes that have left the log and are not noted as rows. */
interface Hole {
  /** Of the last one. */
  readonly place: contract.Place;
  /** Of the first one: Unix ms. */
  readonly since: number;
  readonly namespaces: Set<string>;
}

/** As on Redis: 30 days. */
const maxRowMs = 2_592_000_000;

export interface SlotLog {
  changes: contract.Change[];
  /** Of the changes that are rows. */
  ofRows: WeakMap<contract.Change, RowName>;
  /** Changes at the front of `changes` that are removed from the log, but still in the array. */
  removed: number;
  bytes: number;
  newest: contract.Place;
  /** The last change that was removed. */
  trimmed: contract.Place;
  /** What has left the log after `floor`, in order: kept while a cursor needs the rows. */
  gone: (contract.RowChange | Hole)[];
  floor: contract.Place;
  /** Of `gone`. */
  rowBytes: number;
  count: number;
  cursors: Map<string, contract.Place>;
  /** By name, the times of the places that {@link contract.ChangeLog.keep} was called with. */
  kept: Map<string, number>;
  reader: { holder: string; fence: number; until: number } | undefined;
  /** Retention of the last change: the whole log expires this long after it. */
  maxSeconds: number;
}

/** A log without changes. @param trimmed the place of the last change that it had */
export function endedLog(
  trimmed: contract.Place,
): Pick<SlotLog, "changes" | "ofRows" | "removed" | "bytes" | "trimmed" | "gone" | "floor" | "rowBytes"> {
  return { changes: [], ofRows: new WeakMap(), removed: 0, bytes: 0, trimmed, gone: [], floor: trimmed, rowBytes: 0 };
}

export function bytesOf(change: contract.Change): number {
  return headLength(change) + Buffer.byteLength(change.data) + changeOverheadBytes;
}

function headLength({ channel, epoch, offset, prev, event }: Omit<contract.Change, "data">): number {
  return `${epoch} ${offset} ${prev} ${event} ${channel}`.length;
}

/** Removes what is past the caps, and, after `unclaimedSeconds`, what no live cursor needs. */
export function trim(log: SlotLog, retention: ChangeRetention): void {
  const { maxBytes, maxSeconds, unclaimedSeconds, maxRowBytes = 0 } = retention;
  const now = Date.now();
  const oldestKept = now - maxSeconds * 1000;
  const claimable = now - unclaimedSeconds * 1000;
  const last = log.changes.length - 1;
  let keptFrom: number | undefined;
  const oldestRow = now - Math.max(maxRowMs, maxSeconds * 1000);
  let neededFrom: number | undefined;
  for (; log.removed < last; log.removed++) {
    const oldest = log.changes[log.removed];
    if (!oldest) break;
    if (log.bytes <= maxBytes && oldest.at >= oldestKept) {
      if (oldest.at >= claimable) break;
      keptFrom ??= Math.min(claimable, slowest(log, oldestKept));
      if (oldest.at >= keptFrom) break;
    }
    neededFrom ??= Math.max(oldestRow, hasCursorBeforeAll(log) ? 0 : slowest(log, oldestRow));
    log.bytes -= bytesOf(oldest);
    noteRemoved(log, oldest, maxRowBytes > 0 && oldest.at >= neededFrom);
    log.trimmed = oldest.place;
  }
  if (neededFrom !== undefined) forgetRows(log, { maxRowBytes, neededFrom });
  if (log.removed * 2 > log.changes.length) {
    log.changes.splice(0, log.removed);
    log.removed = 0;
  }
}

/** The time of the slowest cursor at `oldest` or later. Earlier cursors hold nothing back. */
function slowest({ cursors, kept }: SlotLog, oldest: number): number {
  return Math.min(...[...[...cursors.values()].map(timeOf), ...kept.values()].filter((time) => time >= oldest));
}

function hasCursorBeforeAll({ cursors }: SlotLog): boolean {
  return [...cursors.values()].includes(placeBeforeAll);
}

function noteRemoved(log: SlotLog, change: contract.Change, isNeeded: boolean): void {
  const row = log.ofRows.get(change);
  const last = log.gone.at(-1);
  if (row && isNeeded) {
    const { data, ...others } = change;
    const noted = { ...others, row, bytes: Buffer.byteLength(data) };
    log.gone.push(noted);
    log.rowBytes += rowBytesOf(noted);
  } else if (last === undefined && !isNeeded) log.floor = change.place;
  else {
    const namespace = namespaceOf(change.channel);
    if (last && "since" in last)
      log.gone[log.gone.length - 1] = { ...last, place: change.place, namespaces: last.namespaces.add(namespace) };
    else log.gone.push({ place: change.place, since: change.at, namespaces: new Set([namespace]) });
  }
}

function forgetRows(log: SlotLog, { maxRowBytes, neededFrom }: { maxRowBytes: number; neededFrom: number }): void {
  const isKept = (each: contract.RowChange | Hole): boolean => {
    if (log.rowBytes <= maxRowBytes && timeOf(each.place) >= neededFrom) return true;
    if (!("since" in each)) log.rowBytes -= rowBytesOf(each);
    return false;
  };
  const first = log.gone.findIndex(isKept);
  const forgotten = log.gone.splice(0, first === -1 ? log.gone.length : first);
  log.floor = log.gone.length === 0 ? log.trimmed : (forgotten.at(-1)?.place ?? log.floor);
}

function rowBytesOf(change: contract.RowChange): number {
  const { shard, id } = change.row;
  return headLength(change) + `${shard} ${id} ${change.bytes}`.length + changeOverheadBytes;
}

function namespaceOf(channel: string): string {
  return channel.split(":", 1)[0] ?? channel;
}

export function readSlot(
  slot: number,
  log: SlotLog,
  asked: contract.ReadFrom,
  bounds: contract.ReadBounds,
): contract.SlotRead {
  const isTime = asked.kind === "after" && isAtTime(asked.place);
  const from: contract.ReadFrom = isTime ? { kind: "time", at: timeOf(asked.place) } : asked;
  const floor = bounds.withRows && log.gone.length > 0 ? log.floor : log.trimmed;
  const since = from.kind === "after" ? from.place : from.kind === "time" ? `${from.at}-0` : log.newest;
  const oldest = comparePlaces(since, floor) < 0 ? floor : since;
  if (from.kind === "start" || from.kind === "end" || comparePlaces(oldest, log.trimmed) >= 0) {
    return readLog(slot, log, from, bounds);
  }
  const missed =
    oldest === since
      ? undefined
      : { from: since === placeBeforeAll ? timeOf(floor) : timeOf(since), to: timeOf(floor) };
  return readRows(slot, log, { after: oldest, missed }, bounds);
}

/** Rows that have left the log, after the place. */
function readRows(
  slot: number,
  log: SlotLog,
  { after, missed }: { after: contract.Place; missed: contract.Gap | undefined },
  bounds: contract.ReadBounds,
): contract.SlotRead {
  const { limit, maxBytes, channels } = bounds;
  const changes: contract.RowChange[] = [];
  const gaps = missed ? [missed] : [];
  let place = after;
  let bytes = 0;
  let isFull = false;
  for (const each of log.gone) {
    if (comparePlaces(each.place, after) <= 0) continue;
    if ("since" in each) {
      const isAsked = !channels || [...each.namespaces].some((namespace) => mayBeOf(namespace, channels));
      if (isAsked) gaps.push({ from: Math.max(each.since, timeOf(after)), to: timeOf(each.place) });
    } else if (!channels || isAskedFor(each.channel, channels)) {
      isFull = changes.length >= limit || (changes.length > 0 && bytes + each.bytes > maxBytes);
      if (isFull) break;
      bytes += each.bytes;
      changes.push(each);
    }
    place = each.place;
  }
  const from = Math.min(...gaps.map((each) => each.from));
  const gap = gaps.length > 0 && { from, to: Math.max(...gaps.map(({ to }) => to)) };
  if (changes.length === 0 && !isFull) {
    // The reader asks for none of these rows: continue with the log.
    return { ...readLog(slot, log, { kind: "after", place: log.trimmed }, bounds), ...(gap && { gap }) };
  }
  const rows = { changes, until: log.trimmed };
  return { slot, ...(gap && { gap }), changes: [], rows, place: isFull ? place : log.trimmed, newest: log.newest };
}

function readLog(
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

/** Whether any of the channels that are asked for may belong to the namespace. */
function mayBeOf(namespace: string, { names, prefixes }: NonNullable<contract.ReadBounds["channels"]>): boolean {
  return (
    names.some((name) => namespaceOf(name) === namespace) ||
    prefixes.some((prefix) => (prefix.includes(":") ? namespaceOf(prefix) === namespace : namespace.startsWith(prefix)))
  );
}
