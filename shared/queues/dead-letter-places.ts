/** The order of dead letters: by the time of their failure. Each slot keeps its own; a page is taken from all of them. Pure. */
import { pinSlotCount, slotCount } from "../redis/slots.ts";
import { maxDeadLetterBytes } from "./contract.ts";

/** The position of a dead letter. Its id contains it, so that a page can continue after a letter that is gone. */
export interface DeadLetterPlace {
  /** Unix ms, by the store's clock. */
  readonly failedAt: number;
  readonly slot: number;
  readonly sequence: string;
}

export function deadLetterId({ failedAt, slot, sequence }: DeadLetterPlace): string {
  return `${failedAt}-${slot}-${Number(sequence)}`;
}

/** Undefined: there can be no dead letter with this id. */
export function parseDeadLetterId(id: string): DeadLetterPlace | undefined {
  const [, failedAt, slot, sequence] = /^(\d{1,15})-(\d{1,3})-(\d{1,16})$/.exec(id) ?? [];
  if (
    failedAt === undefined ||
    slot === undefined ||
    sequence === undefined ||
    Number(slot) >= slotCount + pinSlotCount
  )
    return undefined;
  return { failedAt: Number(failedAt), slot: Number(slot), sequence };
}

export function comparePlaces(one: DeadLetterPlace, other: DeadLetterPlace): number {
  return one.failedAt - other.failedAt || one.slot - other.slot || Number(one.sequence) - Number(other.sequence);
}

/** @param sizes in bytes, in order. @returns how many of them one page has */
export function pageLength(sizes: readonly number[], limit: number): number {
  let bytes = 0;
  for (const [at, size] of sizes.entries()) {
    bytes += size;
    if (at === limit || (at > 0 && bytes > maxDeadLetterBytes)) return at;
  }
  return sizes.length;
}

/** Places read of each slot in the first round. Slots that may have more of the page are read again, `growth` times as far. */
const firstCount = 16;
const growth = 4;

/** @param read the oldest `count` places of a slot. @returns the oldest `limit` places of these slots, in order */
export async function oldestPlaces(
  slots: readonly number[],
  limit: number,
  read: (slot: number, count: number) => Promise<readonly DeadLetterPlace[]>,
): Promise<readonly DeadLetterPlace[]> {
  const found = new Map<number, readonly DeadLetterPlace[]>();
  let asked = slots;
  for (let count = Math.min(limit, firstCount); ; count = Math.min(limit, count * growth)) {
    await Promise.all(asked.map(async (slot) => found.set(slot, await read(slot, count))));
    const page = [...found.values()].flat().sort(comparePlaces).slice(0, limit);
    const end = page[limit - 1];
    asked = asked.filter((slot) => {
      const places = found.get(slot) ?? [];
      const last = places.at(-1);
      return places.length === count && count < limit && last && (!end || comparePlaces(last, end) < 0);
    });
    if (asked.length === 0) return page;
  }
}
