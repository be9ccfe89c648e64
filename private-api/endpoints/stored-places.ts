/** Keeps in the change log how far it was read for endpoints, so that the places outlive the process. */
import { type ChangeLog, firstCursors, type Place, placeBeforeAll } from "../../shared/changes/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { type Behind, cursorName, parseCursorName, readerCursor } from "./behind.ts";
import { DelayedPlaces, type NotedPlace } from "./delayed-places.ts";
import type { EndpointIndex } from "./endpoint-index.ts";
import type { HeldSlots } from "./held-slots.ts";

/** Slots or endpoints whose places are read at once. */
const loadedAtOnce = 50;
/** By one script call: about 2 ms of Redis. One change can make thousands of endpoints fall behind. */
const storedAtOnce = 500;
/** Of a read that looks for a gap only. */
const gapBounds = { limit: 100, maxBytes: 64 * 1024, withRows: true };

export class StoredPlaces {
  readonly #log: ChangeLog;
  readonly #slots: HeldSlots;
  readonly #behind: Behind;
  readonly #delayMs: () => number;
  readonly #delayed = new DelayedPlaces();

  /** @param options.delayMs places are stored this long after they were reached */
  constructor(options: { log: ChangeLog; slots: HeldSlots; behind: Behind; delayMs: () => number }) {
    this.#log = options.log;
    this.#slots = options.slots;
    this.#behind = options.behind;
    this.#delayMs = options.delayMs;
  }

  /** Of the endpoints that are not behind. */
  async load(slots: readonly number[]): Promise<void> {
    for (const { slot, place } of await this.#log.cursors(slots, readerCursor)) {
      const held = this.#slots.all.get(slot);
      if (held) held.place = place;
    }
    await this.#loadGaps(slots);
  }

  /** Finds changes that this process had read and the store has lost since. Endpoints get a gap for them. */
  async #loadGaps(slots: readonly number[]): Promise<void> {
    let left = slots.flatMap((slot) => {
      const { seen, place = placeBeforeAll } = this.#slots.all.get(slot) ?? {};
      if (seen === undefined || comparePlaces(seen, place) <= 0) return [];
      return [{ slot, from: { kind: "after" as const, place: seen } }];
    });
    while (left.length > 0) {
      const reads = await this.#slots.read(left, gapBounds);
      for (const { slot, gap } of reads) {
        const held = this.#slots.all.get(slot);
        if (held && gap) held.gap = gap;
      }
      const isRead = new Set(reads.map(({ slot }) => slot));
      left = left.filter(({ slot }) => !isRead.has(slot) && this.#slots.all.has(slot));
    }
  }

  /** Of all endpoints that are behind in these slots. */
  async loadAllBehind(slots: readonly number[], index: Pick<EndpointIndex, "get">): Promise<void> {
    for (let at = 0; at < slots.length; at += loadedAtOnce) {
      await Promise.all(slots.slice(at, at + loadedAtOnce).map(async (slot) => this.#loadSlot(slot, index)));
    }
  }

  async #loadSlot(slot: number, index: Pick<EndpointIndex, "get">): Promise<void> {
    for (let from: string | undefined = firstCursors; from !== undefined;) {
      const { cursors, next } = await this.#log.cursorsOf(slot, from);
      for (const { name, place } of cursors) {
        const stored = index.get(parseCursorName(name)?.id ?? "");
        if (stored && cursorName(stored) === name && this.#slots.all.has(slot)) this.#behind.load(stored, slot, place);
      }
      from = next;
    }
  }

  /** Loads the places of these endpoints, where they are behind, in all slots that are held. */
  async loadBehind(endpoints: readonly StoredEndpoint[]): Promise<void> {
    const slots = [...this.#slots.all.keys()];
    for (let at = 0; at < endpoints.length; at += loadedAtOnce) {
      await Promise.all(
        endpoints.slice(at, at + loadedAtOnce).map(async (stored) => {
          const cursors = await this.#log.cursors(slots, cursorName(stored));
          for (const { slot, place } of cursors) if (this.#slots.all.has(slot)) this.#behind.load(stored, slot, place);
        }),
      );
    }
  }

  /**
   * Stores these places, and the changed cursors of endpoints that are behind or no longer are. Loses the slots whose lease has ended.
   * @param places of the endpoints that are not behind; undefined: the log need not be kept for endpoints
   */
  async save(places: readonly { slot: number; place: Place | undefined }[] = []): Promise<void> {
    const { unsaved } = this.#behind;
    const changes = [...unsaved, ...places.map(({ slot, place }) => ({ slot, place, name: readerCursor }))];
    const now = performance.now();
    this.#delayed.note(
      changes.flatMap(({ slot, name, place }) => {
        const held = this.#slots.all.get(slot);
        return held ? [{ slot, name, place, held }] : [];
      }),
      now,
    );
    for (const cursor of unsaved) this.#behind.saved(cursor);
    await this.#store(this.#delayed.take(this.#delayMs(), now));
  }

  /**
   * Stores in the given order. If a call fails, its slots are lost: the call may still arrive late, and must not replace what is stored after
   * it. The store refuses it once the slot has another lease.
   */
  async #store(due: readonly NotedPlace[]): Promise<void> {
    const storable: NotedPlace[] = [];
    /** Their lease may end soon: they wait for its renewal. */
    const waiting: NotedPlace[] = [];
    for (const each of due) {
      if (this.#slots.all.get(each.slot) !== each.held) continue;
      (this.#slots.of(each.slot) ? storable : waiting).push(each);
    }
    this.#delayed.putBack(waiting);
    for (let at = 0; at < storable.length; at += storedAtOnce) {
      const together = storable.slice(at, at + storedAtOnce);
      try {
        await this.#storeTogether(together);
      } catch (error) {
        for (const { held } of together) this.#slots.lose(held);
        this.#delayed.putBack(storable.slice(at + storedAtOnce));
        throw error;
      }
    }
  }

  async #storeTogether(places: readonly NotedPlace[]): Promise<void> {
    const changes = places.map(({ held, ...change }) => ({ ...change, lease: held.lease }));
    const saved = await this.#log.saveCursors(changes);
    for (const [index, { held }] of places.entries()) if (!saved[index]) this.#slots.lose(held);
  }
}
