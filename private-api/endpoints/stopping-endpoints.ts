/**
 * Endpoints that stop. For each slot its reader stores, between two steps, up to where it has queued for the endpoint: until then the endpoint
 * takes changes as before, afterwards none of this slot. Once every slot has such a place, they are the exact position at which the endpoint stops.
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
  /** The leases under which it was looked for a place that is stored. */
  readonly known: WeakSet<HeldSlot>;
  /** Those whose slot has one. */
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

  /** Nothing more of the slot is queued for it. Exact for a step that begins after {@link load}. */
  hasStopped(stored: StoredEndpoint, slot: number): boolean {
    const name = stopName(stored);
    if (name === undefined) return false;
    const stop = this.#stopping.get(stored.endpoint.id);
    const held = this.#slots.all.get(slot);
    // It has changed since the step began: it falls behind, and is read for from there.
    return stop?.name !== name || !held || !stop.known.has(held) || stop.marked.has(held);
  }

  /** A reader before this one may have stored places in these slots. Call it before a step, which queues nothing after them. */
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

  /** A stop, and those of the slots in which it is not known yet. */
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

  /** Call between two steps: what was read before is queued then, and what is read after is not. */
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
      // The places may be stored, or arrive late: nothing more is queued before the slots are taken again, and it is known.
      for (const [, held] of unmarked) this.#slots.lose(held);
      throw error;
    }
    for (const [at, [, held]] of unmarked.entries()) {
      if (saved[at]) marked.add(held);
      else this.#slots.lose(held);
    }
  }
}

/** Everything that may be queued is before its place. */
function isExact({ place, queuedUpTo }: HeldSlot): boolean {
  return place !== undefined && queuedUpTo !== undefined && comparePlaces(place, queuedUpTo) >= 0;
}
