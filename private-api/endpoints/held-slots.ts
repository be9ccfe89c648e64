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
  /** The endpoints that are not behind got everything up to here. Undefined: nothing is read yet. */
  place: Place | undefined;
  /** Up to here this process had read before it lost the slot; undefined: this process never read the slot. */
  readonly seen: Place | undefined;
  /**
   * Changes after `place` may be queued already, up to here: by the previous reader, which stores its place later, or by a step that failed.
   * Undefined: nothing is read yet.
   */
  queuedUpTo: Place | undefined;
  /** Covers changes that this process had read and the store has lost since. Endpoints get the gap with the next read. */
  gap: Gap | undefined;
}

export class HeldSlots extends SharedLeases<number, ReaderLease, HeldSlot> {
  readonly #log: ChangeLog;

  /**
   * @param options.readers how many processes read
   * @param options.onLost the lease of the slot is lost. The slot may be taken again, under another lease
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
        // The gap has not reached the endpoints yet: keep `seen`, so that it is found again.
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

/** Call it before queueing what was read. The previous reader has read no further than the newest change of this reader's first read. */
export function noteQueued(held: HeldSlot | undefined, { place, newest }: Pick<SlotRead, "place" | "newest">): void {
  if (!held) return;
  held.queuedUpTo ??= newest;
  if (comparePlaces(held.queuedUpTo, place) < 0) held.queuedUpTo = place;
}
