/** Changes of cursors that are stored some time after they were noted, each time as they all were at one moment. Pure. */
import type { Place } from "../../shared/changes/contract.ts";
import type { HeldSlot } from "./held-slots.ts";

export interface NotedPlace {
  readonly slot: number;
  readonly name: string;
  /** Undefined: the cursor is to be removed. */
  readonly place: Place | undefined;
  /** It counts for as long as this process holds the slot. */
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

  /** @returns what was noted so long ago, each cursor once, in the order in which they were last noted; it is not noted any more. */
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

/** Each at the end, also where its cursor is known: the place of the reader must not be stored ahead of those noted before it. */
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
