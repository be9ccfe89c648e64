/** Reads the log for single endpoints that are behind, until they have what the others have. */
import {
  type ChangeLog,
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
import { type ChangeQueue, gapOf, isTaking, wants } from "./change-queue.ts";
import type { EndpointIndex } from "./endpoint-index.ts";
import type { HeldSlots } from "./held-slots.ts";
import { changeMessage, gapMessage, type Message } from "./queued-change.ts";

/** Changes that are queued between two steps for all other endpoints. */
const stepItems = 200;
/** A step begins no further read after this time: most of what is read may be of other channels. */
const stepMs = 20;
const maxBytes = 1024 * 1024;
/** An endpoint without room is looked at again after this time. */
const restMs = 500;

export class CatchUp {
  readonly #log: Pick<ChangeLog, "read">;
  readonly #slots: HeldSlots;
  readonly #behind: Behind;
  readonly #backlogs: Backlogs;
  readonly #queue: ChangeQueue;
  /** By endpoint, by `performance.now()`: it is not looked at before. */
  readonly #restUntil = new Map<string, number>();
  /** The endpoint whose turn was last. */
  #last: string | undefined;

  constructor(options: {
    log: Pick<ChangeLog, "read">;
    slots: HeldSlots;
    behind: Behind;
    backlogs: Backlogs;
    queue: ChangeQueue;
  }) {
    this.#log = options.log;
    this.#slots = options.slots;
    this.#behind = options.behind;
    this.#backlogs = options.backlogs;
    this.#queue = options.queue;
  }

  /** It may have room. */
  lookSoon(id: string): void {
    this.#restUntil.delete(id);
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

  /** From the endpoint on that follows the last one. */
  #inTurn(): readonly string[] {
    const ids = [...this.#behind.endpoints];
    const from = this.#last === undefined ? 0 : ids.indexOf(this.#last) + 1;
    return [...ids.slice(from), ...ids.slice(0, from)];
  }

  /** @returns how many changes were looked at. */
  async #read(stored: StoredEndpoint, room: Room): Promise<number> {
    const { id } = stored.endpoint;
    const ownName = cursorName(stored);
    const queries = [...this.#behind.places(id)].flatMap(([slot, { place, name }]) => {
      // It has moved: its new places are read first.
      if (name !== ownName) return [];
      const held = this.#slots.of(slot);
      // Where the others are not known yet, they get as far first.
      if (held?.place === undefined) return [];
      if (comparePlaces(place, held.place) < 0) return [{ slot, from: fromOf(stored, place) }];
      if (comparePlaces(place, held.place) === 0) this.#behind.join(id, slot);
      return [];
    });
    if (queries.length === 0) return 0;
    const bounds = { limit: room.items, maxBytes: room.bytes, channels: channelsOf(stored.endpoint) };
    const reads = await this.#log.read(queries, bounds);
    const gap = gapOf(reads);
    const message = gap && gapMessage(gap);
    let count = 0;
    for (const read of reads) count += await this.#queueUpToOthers(stored, read, message);
    return Math.max(1, count);
  }

  /** @param gapOfAll what is sent for the gap of this read, and of others */
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

/** The place before all stands for the time at which the endpoint begins. */
function fromOf({ endpoint, startsAt }: StoredEndpoint, place: Place): ReadFrom {
  if (place !== placeBeforeAll) return { kind: "after", place };
  return startsAt === 0 || endpoint.after ? { kind: "start" } : { kind: "time", at: startsAt };
}

/** As the log takes them. */
export function channelsOf({ channels }: Pick<Endpoint, "channels">): NonNullable<ReadBounds["channels"]> {
  return {
    names: channels.filter((pattern) => !pattern.endsWith("*")),
    prefixes: channels.filter((pattern) => pattern.endsWith("*")).map((pattern) => pattern.slice(0, -1)),
  };
}
