/** In which slots the queues of a tenant are: in the hash slots, or, where the tenant is pinned, in a slot of its cell. Pure. */
import type { CellMap } from "../redis/cell-map.ts";
import type { QueueName } from "./contract.ts";
import { everySlot } from "../redis/slots.ts";
import { slotOfQueue } from "./keys.ts";

export interface QueuePlaces {
  /**
   * The slots that may hold the queue, the newest last. An item goes to the first of them that holds its queue, or to the newest if none
   * does. So at most one slot holds a queue, and its items were stored before everything that a later slot gets.
   */
  readonly slots: readonly number[];
  /** The version of the map that began the newest place; 0: the tenant has no pin. */
  readonly since: number;
}

/** By hash slot, of a tenant that has no pin: every item asks several times. */
const unpinned: readonly QueuePlaces[] = everySlot.map((slot) => ({ slots: [slot], since: 0 }));

/** @param hashSlot of the queue: for callers that ask more than once */
export function placesOf({ pins }: CellMap, queue: QueueName, hashSlot = slotOfQueue(queue)): QueuePlaces {
  const pin = pins.size === 0 ? undefined : pins.get(queue.tenant);
  if (!pin) return unpinned[hashSlot] ?? { slots: [hashSlot], since: 0 };
  return {
    slots: pin.map(({ slot }) => (slot === "hash" ? hashSlot : slot)),
    since: pin.at(-1)?.since ?? 0,
  };
}

/** The cell that a tenant is pinned to. */
export function pinnedCell({ pins, owners }: CellMap, tenant: string): string | undefined {
  const slot = pins.get(tenant)?.at(-1)?.slot;
  return slot === undefined || slot === "hash" ? undefined : owners[slot];
}
