/** How far the log is read for endpoints, as the change log keeps it: the places outlive the process. */
import type { ChangeLog, Place } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { type Behind, cursorName, readerCursor } from "./behind.ts";
import type { HeldSlots } from "./held-slots.ts";

/** Endpoints whose places are read at once. */
const loadedAtOnce = 50;

export class StoredPlaces {
  readonly #log: ChangeLog;
  readonly #slots: HeldSlots;
  readonly #behind: Behind;

  constructor(options: { log: ChangeLog; slots: HeldSlots; behind: Behind }) {
    this.#log = options.log;
    this.#slots = options.slots;
    this.#behind = options.behind;
  }

  /** Of the endpoints that are not behind. */
  async load(slots: readonly number[]): Promise<void> {
    for (const { slot, place } of await this.#log.cursors(slots, readerCursor)) {
      const held = this.#slots.all.get(slot);
      if (held) held.place = place;
    }
  }

  /** Of those of these endpoints that are behind. @param slots all that are held where it is left out */
  async loadBehind(
    endpoints: readonly StoredEndpoint[],
    slots: readonly number[] = [...this.#slots.all.keys()],
  ): Promise<void> {
    for (let at = 0; at < endpoints.length; at += loadedAtOnce) {
      await Promise.all(
        endpoints.slice(at, at + loadedAtOnce).map(async (stored) => {
          const cursors = await this.#log.cursors(slots, cursorName(stored));
          for (const { slot, place } of cursors) if (this.#slots.all.has(slot)) this.#behind.load(stored, slot, place);
        }),
      );
    }
  }

  /** Loses the slots whose lease has ended. @param places undefined: the log need not be kept for endpoints */
  async save(places: readonly { slot: number; place: Place | undefined }[]): Promise<void> {
    const changes = places.flatMap(({ slot, place }) => {
      const held = this.#slots.of(slot);
      return held ? [{ slot, name: readerCursor, place, lease: held.lease }] : [];
    });
    if (changes.length === 0) return;
    const saved = await this.#log.saveCursors(changes);
    for (const [index, { slot }] of changes.entries()) if (!saved[index]) this.#slots.lose(slot);
  }

  /** What has changed of endpoints that are behind, or are no longer. Loses the slots whose lease has ended. */
  async saveBehind(): Promise<void> {
    const unsaved = this.#behind.unsaved.flatMap((cursor) => {
      const held = this.#slots.of(cursor.slot);
      return held ? [{ cursor, change: { ...cursor, lease: held.lease } }] : [];
    });
    if (unsaved.length === 0) return;
    const saved = await this.#log.saveCursors(unsaved.map(({ change }) => change));
    for (const [index, { cursor }] of unsaved.entries()) {
      if (saved[index]) this.#behind.saved(cursor);
      else this.#slots.lose(cursor.slot);
    }
  }
}
