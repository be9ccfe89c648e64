/** The slots whose log this process reads for endpoints: its share of them, each under a lease. */
import { randomUUID } from "node:crypto";
import { type ChangeLog, type Place, type ReaderLease, readerLeaseMs } from "../../shared/changes/contract.ts";
import { slotCount } from "../../shared/redis/slots.ts";

/** Nothing is queued under a lease that ends within this time. */
const marginMs = 2_000;

export interface HeldSlot {
  readonly lease: ReaderLease;
  /** Since it was taken or last extended, by `performance.now()`. */
  heldSince: number;
  /** Up to here the endpoints got everything, but for those that are behind. Undefined: nothing is read yet. */
  place: Place | undefined;
}

export class HeldSlots {
  readonly #log: ChangeLog;
  readonly #readers: () => Promise<number>;
  readonly #onLost: (slot: number) => void;
  readonly #holder = randomUUID();
  readonly #held = new Map<number, HeldSlot>();

  /**
   * @param options.readers how many processes read
   * @param options.onLost the slot is not held any more, or under another lease
   */
  constructor(options: { log: ChangeLog; readers: () => Promise<number>; onLost: (slot: number) => void }) {
    this.#log = options.log;
    this.#readers = options.readers;
    this.#onLost = options.onLost;
  }

  get all(): ReadonlyMap<number, HeldSlot> {
    return this.#held;
  }

  /** Undefined where its lease may end before what is read is queued. */
  of(slot: number): HeldSlot | undefined {
    const held = this.#held.get(slot);
    return held && isValid(held) ? held : undefined;
  }

  /** Extends what it holds, and takes or gives up slots until it has its share. @returns the slots that were taken */
  async renew(): Promise<readonly HeldSlot[]> {
    await this.#extend();
    const share = Math.ceil(slotCount / Math.max(1, await this.#readers()));
    const excess = [...this.#held.values()].slice(share);
    if (excess.length > 0) await this.#release(excess);
    const missing = share - this.#held.size;
    if (missing <= 0) return [];
    // Beginning anywhere, so that processes do not all ask for the same ones.
    const from = Math.floor(Math.random() * slotCount);
    const free = Array.from({ length: slotCount }, (_, at) => (from + at) % slotCount);
    const others = free.filter((slot) => !this.#held.has(slot));
    return this.#take(others, missing);
  }

  async releaseAll(): Promise<void> {
    await this.#release([...this.#held.values()]);
  }

  /** Its lease is known to have ended. */
  lose(slot: number): void {
    if (this.#held.delete(slot)) this.#onLost(slot);
  }

  async #take(slots: readonly number[], most: number): Promise<readonly HeldSlot[]> {
    const taken: HeldSlot[] = [];
    for (let at = 0; at < slots.length && taken.length < most;) {
      const heldSince = performance.now();
      const asked = slots.slice(at, at + most - taken.length);
      at += asked.length;
      const leases = await this.#log.takeLeases(asked, this.#holder);
      for (const lease of leases) {
        const held: HeldSlot = { lease, heldSince, place: undefined };
        this.#held.set(lease.slot, held);
        taken.push(held);
      }
    }
    return taken;
  }

  async #extend(): Promise<void> {
    const all = [...this.#held.values()];
    if (all.length === 0) return;
    const from = performance.now();
    const kept = await this.#log.extendLeases(all.map(({ lease }) => lease));
    for (const [index, held] of all.entries()) {
      if (kept[index]) held.heldSince = from;
      // Where the Redis of a slot is out of reach its lease holds for as long as it was taken.
      else if (kept[index] === false || !isValid(held)) this.lose(held.lease.slot);
    }
  }

  async #release(slots: readonly HeldSlot[]): Promise<void> {
    for (const { lease } of slots) this.lose(lease.slot);
    if (slots.length > 0) await this.#log.releaseLeases(slots.map(({ lease }) => lease));
  }
}

function isValid({ heldSince }: HeldSlot): boolean {
  return performance.now() - heldSince < readerLeaseMs - marginMs;
}
