/** Compares places in one slot's log. Pure. */
import { type Place, placeBeforeAll, type SlotRead } from "./contract.ts";

/** Negative where `one` is before `other`. */
export function comparePlaces(one: Place, other: Place): number {
  return timeOf(one) - timeOf(other) || numberOf(one) - numberOf(other);
}

/** Unix ms. */
export function timeOf(place: Place): number {
  return Number(place.slice(0, place.indexOf("-")));
}

/** Changes of the slot, whatever their channel, after `from` up to `to`. An estimate where the store lost changes. */
export function changesBetween(from: Place, to: Place): number {
  return Math.max(0, numberOf(to) - numberOf(from));
}

/** Before everything of that time, in Unix ms, and later: a read after it is one from the time on. */
export function placeAtTime(ms: number): Place {
  return `${ms}-0`;
}

/** Whether it is from {@link placeAtTime}. Changes have numbers from 1 on. */
export function isAtTime(place: Place): boolean {
  return place !== placeBeforeAll && numberOf(place) === 0;
}

function numberOf(place: Place): number {
  return Number(place.slice(place.indexOf("-") + 1));
}

/** The read of a slot whose lease has ended: see {@link SlotRead.hasEnded}. */
export function endedRead(slot: number): SlotRead {
  return { slot, changes: [], place: placeBeforeAll, newest: placeBeforeAll, hasEnded: true };
}
