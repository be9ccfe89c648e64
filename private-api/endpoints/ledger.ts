/** The ledger of an endpoint: what it gets. Read from the log, and, for rows that have left it, from the tables of SQL sources. Nothing is stored. */
import type { Change, ChangeLog, Place, SlotQuery } from "../../shared/changes/contract.ts";
import { comparePlaces, timeOf } from "../../shared/changes/places.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { objectText } from "../../shared/json/json-text.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import { everySlot, slotCount } from "../../shared/redis/slots.ts";
import { type TableRows, withTableRows } from "../changes/table-rows.ts";
import { cursorName, readerCursor } from "./behind.ts";
import { beginningOf, channelsOf, fromOf } from "./catch-up.ts";
import { channelSlots, wants } from "./change-queue.ts";
import { changeMessage } from "./queued-change.ts";

/** Slots whose first change is looked for. */
const searchedAtOnce = 16;
const bounds = { limit: 500, maxBytes: 1024 * 1024, withRows: true };

export interface LedgerLine {
  readonly text: string;
  /** Continues the ledger after this line; undefined for a gap. */
  readonly next: string | undefined;
}

export interface LedgerQuery {
  /** {@link LedgerLine.next} of a change; undefined: from the first line on. */
  readonly after?: string;
  /** For a shadow: begins this many ms before {@link sentUntil} and ends at its position. Without it the ledger is what follows its position. */
  readonly sentMs?: number;
}

/**
 * The place of an endpoint in each slot: it gets what follows, or would get it if it were not a shadow. Slots of which nothing was read yet are
 * left out. The places of a live endpoint may be some seconds old, because readers store them with a delay.
 */
export async function ownPlaces(log: ChangeLog, stored: StoredEndpoint): Promise<ReadonlyMap<number, Place>> {
  // Read `others` first: if the endpoint falls behind between the two reads, it does so after these places.
  const others = await log.cursors(everySlot, readerCursor);
  const own = await log.cursors(everySlot, cursorName(stored));
  return new Map([...others, ...own].map(({ slot, place }) => [slot, place]));
}

/**
 * Unix ms before which the shadow was sent everything that was published: no later than its position, and no later than the first unsent
 * change of any slot.
 */
export async function sentUntil(
  log: Pick<ChangeLog, "figures" | "read">,
  stored: StoredEndpoint,
  places: ReadonlyMap<number, Place>,
): Promise<number> {
  const slots = channelSlots(stored);
  const unread = (await log.figures()).flatMap(({ slot, newest }) => {
    const place = slots.has(slot) ? places.get(slot) : undefined;
    return place !== undefined && comparePlaces(place, newest) < 0 ? [{ slot, from: fromOf(stored, place) }] : [];
  });
  const last = Math.max(0, ...[...places.values()].map(timeOf));
  const times = [last];
  for (let at = 0; at < unread.length; at += searchedAtOnce) {
    const searched = unread.slice(at, at + searchedAtOnce);
    times.push(...(await Promise.all(searched.map(async (query) => firstTime(log, query, { stored, until: last })))));
  }
  return Math.min(...times);
}

/** Unix ms of the first change of its channels, or the first gap, from `from` on. The search ends at `until`: Infinity if it found nothing. */
async function firstTime(
  log: Pick<ChangeLog, "read">,
  { slot, from }: SlotQuery,
  { stored, until }: { stored: StoredEndpoint; until: number },
): Promise<number> {
  const firstBounds = { limit: 1, maxBytes: 1, channels: channelsOf(stored.endpoint), withRows: true };
  for (let next = from; ;) {
    const [read] = await log.read([{ slot, from: next }], firstBounds);
    const [first] = read?.rows?.changes ?? read?.changes ?? [];
    const time = Math.min(first?.at ?? Infinity, read?.gap?.from ?? Infinity);
    if (!read || time < Infinity || read.place === read.newest || timeOf(read.place) >= until) return time;
    next = { kind: "after", place: read.place };
  }
}

/**
 * A line for each change, slot by slot, up to the end of the log at the time of each read.
 * @throws TidegateError, also `upstream_unavailable` where a table is out of reach
 */
export async function* ledgerLines(
  { log, tables }: { log: ChangeLog; tables: TableRows },
  stored: StoredEndpoint,
  { after, sentMs }: LedgerQuery,
): AsyncGenerator<LedgerLine> {
  const { endpoint, startsAt } = stored;
  const channels = channelsOf(endpoint);
  const slots = channelSlots(stored);
  const places = endpoint.mode === "shadow" ? await ownPlaces(log, stored) : new Map<number, Place>();
  const known = after === undefined ? undefined : parseNext(after);
  const since = sentMs === undefined ? undefined : Math.max(0, (await sentUntil(log, stored, places)) - sentMs);
  for (let slot = known?.slot ?? 0; slot < slotCount; slot++) {
    if (!slots.has(slot)) continue;
    const shadowPlace = places.get(slot);
    if (since !== undefined && shadowPlace === undefined) continue;
    let from = shadowPlace === undefined ? beginningOf(stored) : fromOf(stored, shadowPlace);
    if (since !== undefined) from = { kind: "time", at: since };
    if (known?.slot === slot) from = { kind: "after", place: known.place };
    for (let isEnd = false; !isEnd;) {
      const [read] = await withTableRows(await log.read([{ slot, from }], { ...bounds, channels }), tables, bounds);
      if (!read) break;
      if (read.gap && read.gap.to >= startsAt) {
        yield { text: `${JSON.stringify({ gap: read.gap })}\n`, next: undefined };
      }
      isEnd = read.place === read.newest;
      for (const change of read.changes) {
        if (since !== undefined && shadowPlace !== undefined && comparePlaces(change.place, shadowPlace) > 0) {
          isEnd = true;
          break;
        }
        const isAskedFor = endpoint.events.some((pattern) => matchesPattern(pattern, change.event));
        if (isAskedFor && wants(stored, change)) {
          yield { text: lineOf(stored, change), next: formatNext(slot, change.place) };
        }
      }
      from = { kind: "after", place: read.place };
    }
  }
}

function formatNext(slot: number, place: Place): string {
  return `${slot}:${place}`;
}

function parseNext(text: string): { slot: number; place: Place } {
  const at = text.indexOf(":");
  return { slot: Number(text.slice(0, at)), place: text.slice(at + 1) };
}

function lineOf(stored: StoredEndpoint, change: Change): string {
  const { at, channel, epoch, offset, event, data } = change;
  const message = changeMessage(change);
  const key = message.keyFor(stored);
  return `${objectText({ at, changeId: message.id, channel, epoch, offset, event, key }, { data })}\n`;
}
