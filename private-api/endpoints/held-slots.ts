/** The slots whose log this process reads for endpoints: its share of them, each under a lease. */
import type {
  ChangeLog,
  Gap,
  Place,
  ReadBounds,
  ReaderLease,
  SlotQuery,
  SlotRead,
} from "../../shared/changes/contract.ts";
import { comparePlaces } from "../../shared/changes/places.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import { type HeldLease, SharedLeases } from "../leases/shared-leases.ts";

export interface HeldSlot extends HeldLease<ReaderLease> {
  /** Up to here the endpoints got everything, but for those that are behind. Undefined: nothing is read yet. */
  place: Place | undefined;
  /** Up to here this process had read before it lost the slot; undefined: this process never read the slot. */
  readonly seen: Place | undefined;
  /**
   * Up to here changes may be queued that stand after `place`: by the reader before, which stores its place later, or by a step that failed.
   * Undefined: nothing is read yet.
   */
  queuedUpTo: Place | undefined;
  /** Of changes that it had read, and that the store has lost since. Endpoints get it with what is read next. */
  gap: Gap | undefined;
}

export class HeldSlots extends SharedLeases<number, ReaderLease, HeldSlot> {
  readonly #log: ChangeLog;

  /**
   * @param options.readers how many processes read
   * @param options.onLost the slot is not held any more, or under another lease
   */
  constructor(options: { log: ChangeLog; readers: () => Promise<number>; onLost: (slot: number) => void }) {
    /** By slot, see {@link HeldSlot.seen}. */
    const seen = new Map<number, Place>();
    super({
      store: options.log,
      nameOf: ({ slot }) => slot,
      all: () => everySlot,
      toHeld: (lease, heldSince) => ({
        lease,
        heldSince,
        place: undefined,
        seen: seen.get(lease.slot),
        queuedUpTo: undefined,
        gap: undefined,
      }),
      readers: options.readers,
      onLost: (slot, held) => {
        // A gap that no endpoint has got yet is found again.
        const known = held.gap ? held.seen : held.place;
        if (known !== undefined) seen.set(slot, known);
        options.onLost(slot);
      },
    });
    this.#log = options.log;
  }

  /** Under the leases of the slots. Slots whose lease has ended are lost and left out. */
  async read(queries: readonly Omit<SlotQuery, "lease">[], bounds: ReadBounds): Promise<readonly SlotRead[]> {
    const asked = new Map(queries.map(({ slot }) => [slot, this.all.get(slot)]));
    const leased = queries.flatMap((query) => {
      const lease = asked.get(query.slot)?.lease;
      return lease ? [{ ...query, lease }] : [];
    });
    if (leased.length === 0) return [];
    const reads = await this.#log.read(leased, bounds);
    for (const { slot, hasEnded } of reads) {
      const held = asked.get(slot);
      if (hasEnded && held) this.lose(held);
    }
    return reads.filter(({ hasEnded }) => !hasEnded);
  }
}

/** Call it before what was read is queued. A reader before this one has read no further than to the newest change of the first read. */
export function noteQueued(held: HeldSlot | undefined, { place, newest }: Pick<SlotRead, "place" | "newest">): void {
  if (!held) return;
  held.queuedUpTo ??= newest;
  if (comparePlaces(held.queuedUpTo, place) < 0) held.queuedUpTo = place;
}
