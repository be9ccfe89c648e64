/** Delays the storing of cursors. What is taken together is the state of all cursors at one moment. Pure. */
import type { Place } from "../../shared/changes/contract.ts";
import type { HeldSlot } from "./held-slots.ts";

export interface NotedPlace {
  readonly slot: number;
  readonly name: string;
  /** Undefined: the cursor is to be removed. */
  readonly place: Place | undefined;
  /** The place counts only while this process holds the slot under this lease. */
  readonly held: HeldSlot;
}

/** What is noted within this time is stored together. */
const togetherMs = 500;

export class DelayedPlaces {
  /** Oldest first; `from`: when the first of them was noted, by the caller's clock. */
  #batches: { from: number; places: Map<string, NotedPlace> }[] = [];

  note(noted: Iterable<NotedPlace>, nowMs: number): void {
    let last = this.#batches.at(-1);
    if (!last || nowMs - last.from >= togetherMs) {
      last = { from: nowMs, places: new Map() };
      this.#batches.push(last);
    }
    addTo(last.places, noted);
  }

  /** Removes and returns the batches that began at least `delayMs` ago: each cursor once, in the order in which it was last noted. */
  take(delayMs: number, nowMs: number): readonly NotedPlace[] {
    const due = this.#batches.filter(({ from }) => nowMs - from >= delayMs);
    this.#batches = this.#batches.slice(due.length);
    const taken = new Map<string, NotedPlace>();
    for (const { places } of due) addTo(taken, places.values());
    return [...taken.values()];
  }

  /** What was taken, and could not be stored. */
  putBack(taken: readonly NotedPlace[]): void {
    if (taken.length > 0)
      this.#batches.unshift({ from: -Infinity, places: new Map(taken.map((each) => [keyOf(each), each])) });
  }
}

/** Adds each at the end, even if its cursor is known: the reader's place must not be stored ahead of the places noted before it. */
function addTo(places: Map<string, NotedPlace>, noted: Iterable<NotedPlace>): void {
  for (const each of noted) {
    const key = keyOf(each);
    places.delete(key);
    places.set(key, each);
  }
}

function keyOf({ slot, name }: NotedPlace): string {
  return `${slot} ${name}`;
}
