/**
 * Reads the log separately for each endpoint that is behind, until it has caught up with the others. Rows that have left the log are read
 * from the tables of SQL sources.
 */
import {
  type Place,
  placeBeforeAll,
  type ReadBounds,
  type ReadFrom,
  type SlotRead,
} from "../../shared/changes/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import type { Backlogs, Room } from "./backlogs.ts";
import { type Behind, cursorName } from "./behind.ts";
import { type ChangeQueue, channelSlots, gapOf, hasChannelsIn, isTaking, wants } from "./change-queue.ts";
import type { EndpointIndex } from "./endpoint-index.ts";
import type { HeldSlots } from "./held-slots.ts";
import { changeMessage, gapMessage, type Message } from "./queued-change.ts";
import type { BegunRead, RowFetches } from "./row-fetches.ts";

/** Changes that are queued between two steps for all other endpoints. */
const stepItems = 200;
/** A step begins no further read after this time: most of what is read may be of other channels. */
const stepMs = 20;
const maxBytes = 1024 * 1024;
/** Pause of an endpoint for which nothing can be queued or read at present. */
const restMs = 500;

export class CatchUp {
  readonly #slots: HeldSlots;
  readonly #behind: Behind;
  readonly #backlogs: Backlogs;
  readonly #queue: ChangeQueue;
  readonly #fetches: RowFetches;
  /** By endpoint: a step skips it until this time, by `performance.now()`. */
  readonly #restUntil = new Map<string, number>();
  /** The endpoint whose turn was last. */
  #last: string | undefined;

  constructor(options: {
    slots: HeldSlots;
    behind: Behind;
    backlogs: Backlogs;
    queue: ChangeQueue;
    fetches: RowFetches;
  }) {
    this.#slots = options.slots;
    this.#behind = options.behind;
    this.#backlogs = options.backlogs;
    this.#queue = options.queue;
    this.#fetches = options.fetches;
  }

  /** The endpoint may have room, or fetched rows: the next step does not skip it. */
  lookSoon(id: string): void {
    this.#restUntil.delete(id);
  }

  /**
   * Leaves rows that are no longer in the log to catch-up: each endpoint that may want them is behind from now on.
   * @param before where the read began @returns the read without its rows
   */
  leaveRows({ rows, ...read }: SlotRead, before: Place | undefined, index: Pick<EndpointIndex, "all">): SlotRead {
    if (!rows) return read;
    for (const stored of index.all) {
      const isBehind = this.#behind.has(stored.endpoint.id, read.slot);
      if (!isBehind && hasChannelsIn(stored, read.slot)) this.#behind.set(stored, read.slot, before ?? placeBeforeAll);
    }
    const { gap: _gap, ...whole } = read;
    return { ...whole, place: rows.until };
  }

  /** Endpoints take turns; a step is short. @returns whether places changed */
  async step(index: Pick<EndpointIndex, "get">): Promise<boolean> {
    const until = performance.now() + stepMs;
    let left = stepItems;
    let changed = false;
    for (const id of this.#inTurn()) {
      if (left <= 0 || performance.now() >= until) break;
      const stored = index.get(id);
      if (!stored) {
        this.#behind.forget(id);
        this.#fetches.forget(id);
        changed = true;
        continue;
      }
      if (!isTaking(stored) || (this.#restUntil.get(id) ?? 0) > performance.now()) continue;
      const room = await this.#backlogs.room(id);
      if (!room) {
        this.#restUntil.set(id, performance.now() + restMs);
        continue;
      }
      this.#restUntil.delete(id);
      this.#last = id;
      left -= await this.#read(stored, { items: Math.min(room.items, left), bytes: Math.min(room.bytes, maxBytes) });
      changed = true;
    }
    return changed;
  }

  /** The endpoints that are behind, beginning after the one whose turn was last. */
  #inTurn(): readonly string[] {
    const ids = [...this.#behind.endpoints];
    const from = this.#last === undefined ? 0 : ids.indexOf(this.#last) + 1;
    return [...ids.slice(from), ...ids.slice(0, from)];
  }

  /** @returns how many changes were looked at. */
  async #read(stored: StoredEndpoint, room: Room): Promise<number> {
    const { id } = stored.endpoint;
    const fetched = this.#fetches.take(id).filter((begun) => this.#isCurrent(stored, begun));
    const isFetched = new Set(fetched.map(({ read }) => read.slot));
    const due = this.#queriesFor(stored).filter(({ slot }) => !isFetched.has(slot));
    const queries = due.filter(({ slot }) => !this.#fetches.waitsFor(id, slot));
    if (queries.length === 0 && fetched.length === 0) {
      if (due.length > 0) this.#restUntil.set(id, performance.now() + restMs);
      return 0;
    }
    const bounds = { limit: room.items, maxBytes: room.bytes, channels: channelsOf(stored.endpoint), withRows: true };
    const found = queries.length === 0 ? [] : await this.#slots.read(queries, bounds);
    const begun = this.#begunReads(stored, found);
    const isRefused = begun.length > 0 && !this.#fetches.begin(id, begun, bounds);
    const isWhole = ({ rows }: SlotRead): boolean => rows === undefined || rows.changes.length === 0;
    const reads = [...fetched.map(({ read }) => read), ...found.filter(isWhole)];
    // Only rows were read, and they cannot be fetched yet: they are read again later.
    if (isRefused && reads.length === 0) this.#restUntil.set(id, performance.now() + restMs);
    const gap = gapOf(reads);
    const message = gap && gapMessage(gap);
    let count = 0;
    for (const read of reads) count += await this.#queueUpToOthers(stored, read, message);
    return Math.max(1, count);
  }

  #queriesFor(stored: StoredEndpoint): { slot: number; from: ReadFrom }[] {
    const { id } = stored.endpoint;
    const ownName = cursorName(stored);
    const slots = channelSlots(stored);
    return [...this.#behind.places(id)].flatMap(([slot, { place, name }]) => {
      // It has moved: its new places are read first.
      if (name !== ownName) return [];
      const held = this.#slots.of(slot);
      // Nothing is read for the others in this slot yet: they come first.
      if (held?.place === undefined) return [];
      const order = comparePlaces(place, held.place);
      if (order < 0 && slots.has(slot)) return [{ slot, from: fromOf(stored, place) }];
      if (order <= 0) this.#behind.join(id, slot);
      return [];
    });
  }

  /** Of the slots whose next changes are rows. */
  #begunReads(stored: StoredEndpoint, reads: readonly SlotRead[]): BegunRead[] {
    return reads.flatMap((read) => {
      const entry = this.#behind.places(stored.endpoint.id).get(read.slot);
      const held = this.#slots.of(read.slot);
      if (!entry || !held || !read.rows || read.rows.changes.length === 0) return [];
      return [{ read, before: entry.place, name: entry.name, held }];
    });
  }

  /** Neither the place of the endpoint nor the lease of the slot has changed since the read. */
  #isCurrent(stored: StoredEndpoint, { read, before, name, held }: BegunRead): boolean {
    const entry = this.#behind.places(stored.endpoint.id).get(read.slot);
    const isSame = entry?.place === before && entry.name === name && name === cursorName(stored);
    return isSame && this.#slots.of(read.slot) === held;
  }

  /** @param gapOfAll one message for the gaps of all reads together */
  async #queueUpToOthers(
    stored: StoredEndpoint,
    { slot, gap, changes, place }: SlotRead,
    gapOfAll: Message | undefined,
  ): Promise<number> {
    const { id, events } = stored.endpoint;
    const others = this.#slots.of(slot)?.place;
    if (others === undefined || !this.#behind.has(id, slot)) return 0;
    const own = changes.filter((change) => comparePlaces(change.place, others) <= 0);
    const matching = own.filter(
      (change) => wants(stored, change) && events.some((pattern) => matchesPattern(pattern, change.event)),
    );
    const messages = matching.map(changeMessage);
    if (gap && gapOfAll && stored.startsAt <= gap.to) messages.unshift(gapOfAll);
    await this.#queue.addFor(stored, messages);
    // The slot was lost meanwhile.
    if (!this.#behind.has(id, slot)) return changes.length;
    if (own.length === changes.length && comparePlaces(place, others) < 0) this.#behind.set(stored, slot, place);
    else this.#behind.join(id, slot);
    return changes.length;
  }
}

/** The place before all stands for where the endpoint begins. */
export function fromOf(stored: StoredEndpoint, place: Place): ReadFrom {
  return place === placeBeforeAll ? beginningOf(stored) : { kind: "after", place };
}

export function beginningOf({ endpoint: { after, othersFromLedger = false }, startsAt }: StoredEndpoint): ReadFrom {
  return startsAt === 0 || (after && !othersFromLedger) ? { kind: "start" } : { kind: "time", at: startsAt };
}

/** As the log takes them. */
export function channelsOf({ channels }: Pick<Endpoint, "channels">): NonNullable<ReadBounds["channels"]> {
  return {
    names: channels.filter((pattern) => !pattern.endsWith("*")),
    prefixes: channels.filter((pattern) => pattern.endsWith("*")).map((pattern) => pattern.slice(0, -1)),
  };
}
