/** Shares the caps of the change log among the slots. */
import type { ChangeRetention } from "../channels/contract.ts";
import { slotOf } from "../redis/slots.ts";
import type { Logger } from "../runtime/logging.ts";
import type { ChangeLog } from "./contract.ts";

/** How old the sizes may be: other processes append as well, and removals are not counted here. */
const maxAgeMs = 2_000;
const unclaimedSeconds = 3_600;
/** About what a change takes besides its data. */
const headBytes = 128;

/** A slot may keep what the others leave free. Once the log is full, the largest slots are cut to one size. Noted rows have a cap of their own. */
export class ChangeBudget {
  readonly #log: Pick<ChangeLog, "figures">;
  readonly #maxSeconds: number;
  readonly #logger: Logger;
  readonly #data: SlotShares;
  readonly #rows: SlotShares;
  #askedAt = -Infinity;

  constructor(options: {
    log: Pick<ChangeLog, "figures">;
    maxBytes: number;
    maxSeconds: number;
    maxRowBytes: number;
    logger: Logger;
  }) {
    this.#log = options.log;
    this.#maxSeconds = options.maxSeconds;
    this.#logger = options.logger;
    this.#data = new SlotShares(options.maxBytes);
    this.#rows = new SlotShares(options.maxRowBytes);
  }

  /** What the channel's slot may keep once a publication with this much data is appended. The sizes are read only while changes are appended. */
  retention(channel: string, dataBytes: number): ChangeRetention {
    if (performance.now() - this.#askedAt >= maxAgeMs) void this.#refresh();
    const slot = slotOf(channel);
    this.#data.add(slot, dataBytes + headBytes);
    return {
      maxBytes: this.#data.most(slot),
      maxSeconds: this.#maxSeconds,
      unclaimedSeconds: Math.min(unclaimedSeconds, this.#maxSeconds),
      maxRowBytes: this.#rows.most(slot),
    };
  }

  async #refresh(): Promise<void> {
    this.#askedAt = performance.now();
    try {
      const figures = await this.#log.figures();
      this.#data.set(new Map(figures.map(({ slot, bytes }) => [slot, bytes])));
      this.#rows.set(new Map(figures.map(({ slot, rowBytes }) => [slot, rowBytes])));
    } catch (error) {
      this.#logger.debug({ err: error }, "the size of the change log could not be read");
    }
  }
}

/** One cap, shared by all slots. */
class SlotShares {
  readonly #max: number;
  /** By slot: as last read, and what this process added since. */
  #bytes = new Map<number, number>();
  #total = 0;
  /** Most bytes of a slot, as computed when the total was `#levelTotal`. */
  #level = Infinity;
  #levelTotal = 0;

  constructor(max: number) {
    this.#max = max;
  }

  set(bytes: Map<number, number>): void {
    this.#bytes = bytes;
    this.#total = 0;
    for (const size of bytes.values()) this.#total += size;
    this.#levelTotal = 0;
  }

  add(slot: number, bytes: number): void {
    this.#bytes.set(slot, (this.#bytes.get(slot) ?? 0) + bytes);
    this.#total += bytes;
  }

  /** Most bytes that the slot may have. */
  most(slot: number): number {
    const free = this.#max - this.#total;
    if (free >= 0) return (this.#bytes.get(slot) ?? 0) + free;
    // Slots may fill one after the other, and each one that fills makes the shares smaller.
    if (this.#total - this.#levelTotal > this.#max / 64) {
      this.#level = levelOf([...this.#bytes.values()], this.#max);
      this.#levelTotal = this.#total;
    }
    return Math.min(this.#level, this.#max);
  }
}

/** The size to which the largest are cut so that all together have at most `most`; Infinity where they have less. */
export function levelOf(sizes: readonly number[], most: number): number {
  let left = most;
  const ascending = sizes.toSorted((one, other) => one - other);
  for (const [index, size] of ascending.entries()) {
    const share = left / (ascending.length - index);
    if (size > share) return share;
    left -= size;
  }
  return Infinity;
}
