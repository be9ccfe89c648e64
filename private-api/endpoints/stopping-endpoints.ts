/**
 * Stops endpoints at an exact position. The reader of each slot stores, between two steps, the place up to which it has queued changes for the
 * endpoint. Before that it queues as usual; afterwards it queues nothing of this slot. Once every slot has such a place, the endpoint stops there.
 */
import { type ChangeLog, placeBeforeAll } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import { type Behind, cursorName, stopName } from "./behind.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import type { HeldSlot, HeldSlots } from "./held-slots.ts";
import type { MovedEndpoints } from "./moved-endpoints.ts";

interface Stop {
  readonly name: string;
  /** Slots, by lease, in which a stored place was looked up. */
  readonly known: WeakSet<HeldSlot>;
  /** Slots, by lease, that have a stored place. */
  readonly marked: WeakSet<HeldSlot>;
}

export class StoppingEndpoints {
  readonly #log: Pick<ChangeLog, "cursors" | "saveCursors">;
  readonly #current: Pick<CurrentEndpoints, "index">;
  readonly #slots: HeldSlots;
  readonly #moved: Pick<MovedEndpoints, "has">;
  readonly #behind: Behind;
  readonly #isLoaded: (slot: number) => boolean;
  /** By endpoint. */
  readonly #stopping = new Map<string, Stop>();

  /** @param options.isLoaded the places of the slot are read */
  constructor(options: {
    log: Pick<ChangeLog, "cursors" | "saveCursors">;
    current: Pick<CurrentEndpoints, "index">;
    slots: HeldSlots;
    moved: Pick<MovedEndpoints, "has">;
    behind: Behind;
    isLoaded: (slot: number) => boolean;
  }) {
    this.#log = options.log;
    this.#current = options.current;
    this.#slots = options.slots;
    this.#moved = options.moved;
    this.#behind = options.behind;
    this.#isLoaded = options.isLoaded;
  }

  start(): void {
    for (const stored of this.#current.index.all) this.note(stored.endpoint.id, stored);
  }

  /** An endpoint has changed; undefined: it is gone. */
  note(id: string, stored: StoredEndpoint | undefined): void {
    const name = stored && stopName(stored);
    if (name === undefined) this.#stopping.delete(id);
    else if (this.#stopping.get(id)?.name !== name) {
      this.#stopping.set(id, { name, known: new WeakSet(), marked: new WeakSet() });
    }
  }

  /** Whether nothing more of the slot is queued for the endpoint. Exact after {@link load}. */
  hasStopped(stored: StoredEndpoint, slot: number): boolean {
    const name = stopName(stored);
    if (name === undefined) return false;
    const stop = this.#stopping.get(stored.endpoint.id);
    const held = this.#slots.all.get(slot);
    // If the endpoint or the slot has changed since `load`, the endpoint falls behind here, which keeps its place.
    return stop?.name !== name || !held || !stop.known.has(held) || stop.marked.has(held);
  }

  /** Finds places that an earlier reader has stored in these slots. Call it before queueing changes, so that nothing after them is queued. */
  async load(slots: Iterable<number>): Promise<void> {
    const wanted = [...slots];
    for (let next = this.#nextUnknown(wanted); next; next = this.#nextUnknown(wanted)) {
      const { stop, unknown } = next;
      const stored = await this.#log.cursors([...unknown.keys()], stop.name);
      const isStored = new Set(stored.map(({ slot }) => slot));
      for (const [slot, held] of unknown) {
        stop.known.add(held);
        if (isStored.has(slot)) stop.marked.add(held);
      }
    }
  }

  /** A stop with slots in which no stored place was looked up yet; undefined: none is left. */
  #nextUnknown(slots: readonly number[]): { stop: Stop; unknown: ReadonlyMap<number, HeldSlot> } | undefined {
    for (const stop of this.#stopping.values()) {
      const unknown = new Map<number, HeldSlot>();
      for (const slot of slots) {
        const held = this.#slots.of(slot);
        if (held && !stop.known.has(held)) unknown.set(slot, held);
      }
      if (unknown.size > 0) return { stop, unknown };
    }
    return undefined;
  }

  /** Stores the places. Call it between two steps: what was read before is queued, and nothing that is read later will be. */
  async mark(): Promise<void> {
    await this.load(this.#slots.all.keys());
    for (const [id, stop] of this.#stopping) {
      const stored = this.#current.index.get(id);
      if (!stored || this.#moved.has(id)) continue;
      const unmarked = [...this.#slots.all].filter(
        ([slot, held]) =>
          stop.known.has(held) &&
          !stop.marked.has(held) &&
          this.#isLoaded(slot) &&
          this.#slots.of(slot) &&
          isExact(held),
      );
      if (unmarked.length > 0) await this.#markIn(unmarked, stored, stop);
    }
  }

  async #markIn(
    unmarked: readonly (readonly [slot: number, held: HeldSlot])[],
    stored: StoredEndpoint,
    { name, marked }: Stop,
  ): Promise<void> {
    const behind = this.#behind.places(stored.endpoint.id);
    const ownName = cursorName(stored);
    const changes = unmarked.map(([slot, held]) => {
      const own = behind.get(slot);
      const place = own?.name === ownName ? own.place : held.place;
      return { slot, name, place: place ?? placeBeforeAll, lease: held.lease };
    });
    let saved: readonly boolean[];
    try {
      saved = await this.#log.saveCursors(changes);
    } catch (error) {
      // The places may be stored, now or later. The slots are lost, so that nothing more is queued before they are taken again and looked up.
      for (const [, held] of unmarked) this.#slots.lose(held);
      throw error;
    }
    for (const [at, [, held]] of unmarked.entries()) {
      if (saved[at]) marked.add(held);
      else this.#slots.lose(held);
    }
  }
}

/** Nothing after the place of the slot is queued. */
function isExact({ place, queuedUpTo }: HeldSlot): boolean {
  return place !== undefined && queuedUpTo !== undefined && comparePlaces(place, queuedUpTo) >= 0;
}
