/**
 * Removes cursors that no endpoint uses any more: those of endpoints whose removal a crash interrupted, of earlier generations, and of
 * stops that have ended.
 */
import { type ChangeLog, firstCursors } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { endpointOfStop, parseCursorName, stopName } from "./behind.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import type { HeldSlots } from "./held-slots.ts";

export class CursorSweep {
  readonly #log: Pick<ChangeLog, "cursorsOf" | "saveCursors">;
  readonly #slots: HeldSlots;
  readonly #current: Pick<CurrentEndpoints, "catchUp" | "index">;
  #last = -1;

  constructor(options: {
    log: Pick<ChangeLog, "cursorsOf" | "saveCursors">;
    slots: HeldSlots;
    current: Pick<CurrentEndpoints, "catchUp" | "index">;
  }) {
    this.#log = options.log;
    this.#slots = options.slots;
    this.#current = options.current;
  }

  /** Sweeps one slot of those that this process holds: they take turns. */
  async step(): Promise<void> {
    const slots = [...this.#slots.all.keys()].toSorted((one, other) => one - other);
    const slot = slots.find((each) => each > this.#last) ?? slots[0];
    if (slot === undefined) return;
    this.#last = slot;
    for (let from: string | undefined = firstCursors; from !== undefined;) {
      const { cursors, next } = await this.#log.cursorsOf(slot, from);
      // After the cursors: every endpoint that has one is known then.
      await this.#current.catchUp();
      const lease = this.#slots.of(slot)?.lease;
      if (!lease) return;
      const unused = cursors.filter(({ name }) => isUnused(name, this.#current.index));
      if (unused.length > 0) {
        await this.#log.saveCursors(unused.map(({ name }) => ({ slot, name, place: undefined, lease })));
      }
      from = next;
    }
  }
}

/** Cursors of a later generation count as used: a move stores them before the generation begins. */
function isUnused(name: string, index: { get(id: string): StoredEndpoint | undefined }): boolean {
  const stopped = endpointOfStop(name);
  if (stopped !== undefined) {
    const stored = index.get(stopped);
    return !stored || stopName(stored) !== name;
  }
  const cursor = parseCursorName(name);
  if (!cursor) return false;
  const stored = index.get(cursor.id);
  return !stored || cursor.generation < stored.generation;
}
