/** Shares the caps of the change log among the slots. */
import type { ChangeRetention } from "../channels/contract.ts";
import { slotOf } from "../redis/slots.ts";
import type { Logger } from "../runtime/logging.ts";
import type { ChangeLog } from "./contract.ts";

/** Other processes append as well, and what is removed is not counted here. */
const maxAgeMs = 2_000;
const unclaimedSeconds = 3_600;
/** About what a change takes besides its data. */
const headBytes = 128;

/** A slot may keep what the others leave; once the log is full the largest ones are cut to one size. */
export class ChangeBudget {
  readonly #log: Pick<ChangeLog, "figures">;
  readonly #maxBytes: number;
  readonly #maxSeconds: number;
  readonly #logger: Logger;
  /** By slot: as last read, and what this process appended since. */
  #bytes = new Map<number, number>();
  #total = 0;
  /** Most bytes of a slot; undefined: not computed since the last read. */
  #level: number | undefined;
  #askedAt = -Infinity;

  constructor(options: { log: Pick<ChangeLog, "figures">; maxBytes: number; maxSeconds: number; logger: Logger }) {
    this.#log = options.log;
    this.#maxBytes = options.maxBytes;
    this.#maxSeconds = options.maxSeconds;
    this.#logger = options.logger;
  }

  /** What the channel's slot may keep once a publication with so much data is appended. Nothing is read while nothing is appended. */
  retention(channel: string, dataBytes: number): ChangeRetention {
    if (performance.now() - this.#askedAt >= maxAgeMs) void this.#refresh();
    const slot = slotOf(channel);
    const added = dataBytes + headBytes;
    const bytes = (this.#bytes.get(slot) ?? 0) + added;
    this.#bytes.set(slot, bytes);
    this.#total += added;
    const free = this.#maxBytes - this.#total;
    if (free < 0) this.#level ??= levelOf([...this.#bytes.values()], this.#maxBytes);
    return {
      maxBytes: free < 0 ? (this.#level ?? this.#maxBytes) : bytes + free,
      maxSeconds: this.#maxSeconds,
      unclaimedSeconds: Math.min(unclaimedSeconds, this.#maxSeconds),
    };
  }

  async #refresh(): Promise<void> {
    this.#askedAt = performance.now();
    try {
      const figures = await this.#log.figures();
      this.#bytes = new Map(figures.map(({ slot, bytes }) => [slot, bytes]));
      this.#total = figures.reduce((sum, { bytes }) => sum + bytes, 0);
      this.#level = undefined;
    } catch (error) {
      this.#logger.debug({ err: error }, "the size of the change log could not be read");
    }
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
