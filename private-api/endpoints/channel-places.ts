/** Where changes that are named by their channels and offsets stand in the log. A place tells changes of two epochs apart, an offset does not. */
import {
  type Change,
  type ChangeLog,
  type Place,
  placeBeforeAll,
  type ReadFrom,
} from "../../shared/changes/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

/** The last change of a channel that was sent. */
export interface ChannelPlace {
  readonly channel: string;
  readonly offset: number;
  /** Unix ms at which it was published: needed where a further epoch of the channel has the same offset. */
  readonly at?: number;
}

/** Slots that are searched at once. */
const searchedAtOnce = 16;
/** Of one read in one slot. */
const bounds = { limit: 1_000, maxBytes: 4 * 1024 * 1024, withRows: true };

/** The sources from which places are found. */
export interface PlaceSources {
  readonly log: Pick<ChangeLog, "read">;
  /** The present offset of a channel; 0 where the channel has no state. */
  readonly offsetOf: (channel: string) => Promise<number>;
}

/**
 * By channel: the place after which the log has exactly those changes of the channel that follow the named one.
 * @param fromIn where the search in a slot begins if `at` is not given for all named changes there
 * @throws TidegateError `history_trimmed`, `conflict` if several changes, or none, may be meant
 */
export async function placesOf(
  { log, offsetOf }: PlaceSources,
  named: readonly ChannelPlace[],
  fromIn: (slot: number) => ReadFrom,
): Promise<ReadonlyMap<string, Place>> {
  const bySlot = [...Map.groupBy(named, ({ channel }) => slotOf(channel))];
  const places = new Map<string, Place>();
  for (let at = 0; at < bySlot.length; at += searchedAtOnce) {
    await Promise.all(
      bySlot.slice(at, at + searchedAtOnce).map(async ([slot, ofSlot]) => {
        // Read before the search, which then sees everything that is published later.
        const present = await presentOffsets(ofSlot, offsetOf);
        const searches = new Map(ofSlot.map((each) => [each.channel, new Search(each)]));
        const end = await searchSlot(log, { slot, from: beginningOf(ofSlot) ?? fromIn(slot) }, searches);
        for (const [channel, search] of searches) places.set(channel, search.placeAt(end, present.get(channel) ?? 0));
      }),
    );
  }
  return places;
}

/** By channel. */
async function presentOffsets(
  named: readonly ChannelPlace[],
  offsetOf: PlaceSources["offsetOf"],
): Promise<ReadonlyMap<string, number>> {
  return new Map(await Promise.all(named.map(async ({ channel }) => [channel, await offsetOf(channel)] as const)));
}

/** The earliest time of the named changes; undefined if the time of any is not known. */
function beginningOf(named: readonly ChannelPlace[]): ReadFrom | undefined {
  const earliest = Math.min(...named.map(({ at = -Infinity }) => at));
  return earliest === -Infinity ? undefined : { kind: "time", at: earliest };
}

/** Searches up to the end of the slot, because changes that follow a named one may be missing. @returns the end */
async function searchSlot(
  log: Pick<ChangeLog, "read">,
  { slot, from }: { slot: number; from: ReadFrom },
  searches: ReadonlyMap<string, Search>,
): Promise<Place> {
  const channels = { names: [...searches.keys()], prefixes: [] };
  let next = from;
  for (;;) {
    const [read] = await log.read([{ slot, from: next }], { ...bounds, channels });
    if (!read) return placeBeforeAll;
    for (const change of [...(read.rows?.changes ?? []), ...read.changes]) searches.get(change.channel)?.see(change);
    if (read.place === read.newest) return read.place;
    next = { kind: "after", place: read.place };
  }
}

/** What the log has of one epoch of the channel. */
interface Epoch {
  readonly name: string;
  /** The log has its first change. */
  readonly isWhole: boolean;
  /** Of the last change seen. */
  offset: number;
  /** Of the last change that does not follow the named one. */
  place: Place;
  /** The log has the named change, or one that follows it. */
  isReached: boolean;
  /** The log lacks a change that follows the named one, in this epoch or a later one. */
  isTrimmed: boolean;
}

/** Searches for one change among all changes that the log has of its channel. */
class Search {
  readonly #named: ChannelPlace;
  readonly #epochs: Epoch[] = [];
  /** Of the last change seen. */
  #last: Place = placeBeforeAll;
  /** The epoch of the named change, if its time is known and it was found. */
  #found: Epoch | undefined;

  constructor(named: ChannelPlace) {
    this.#named = named;
  }

  see({ epoch: name, offset, prev, place, at }: Pick<Change, "epoch" | "offset" | "prev" | "place" | "at">): void {
    const { offset: named, at: namedAt } = this.#named;
    let epoch = this.#epochs.at(-1);
    // The log lacks a change between the last one seen and this one.
    if (prev > (epoch?.name === name ? epoch.offset : 0)) {
      for (const each of this.#epochs) each.isTrimmed ||= each.isReached;
    }
    if (epoch?.name !== name) {
      epoch = { name, isWhole: prev === 0, offset, place: this.#last, isReached: false, isTrimmed: false };
      this.#epochs.push(epoch);
    }
    if (!epoch.isReached) {
      if (offset <= named) epoch.place = place;
      epoch.isReached = offset >= named;
      epoch.isTrimmed = offset > named && prev > named;
    }
    if (offset === named && at === namedAt) this.#found ??= epoch;
    epoch.offset = offset;
    this.#last = place;
  }

  /**
   * Call it after the last change. @param end of the log @param present offset of the channel before the search
   * @throws TidegateError `history_trimmed`, `conflict`
   */
  placeAt(end: Place, present: number): Place {
    const { channel, offset, at } = this.#named;
    const isGone = this.#epochs.length === 0;
    if (at !== undefined && !this.#found && !(isGone && present === offset)) {
      throw new TidegateError("history_trimmed", `the log has no change ${offset} of ${channel} of the time ${at}`);
    }
    const candidates = this.#found ? [this.#found] : this.#epochs.filter(({ isReached }) => isReached);
    const [reached, another] = candidates;
    if (another) {
      throw new TidegateError(
        "conflict",
        `the log has several epochs of ${channel} with offset ${offset}: add the time of the change as "at"`,
      );
    }
    if (reached?.isTrimmed || (isGone && present > offset)) {
      throw new TidegateError("history_trimmed", `the log no longer has what follows offset ${offset} of ${channel}`);
    }
    if (reached) return reached.place;
    if ((present > 0 && present < offset) || this.#epochs.some(({ isWhole }) => isWhole)) {
      throw new TidegateError(
        "conflict",
        `the log has no offset ${offset} of ${channel}, whose present epoch is at ${present}: name a change that the log has`,
      );
    }
    return end;
  }
}
