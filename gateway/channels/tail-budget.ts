/** Memory that all tails of a node share. */

/** Of all tails of a node. */
const maxNodeBytes = 64 * 1024 * 1024;

interface BudgetedTail {
  /** Forgets its publications, and returns their bytes to the budget. */
  drop(): void;
}

export class TailBudget {
  readonly #maxBytes: number;
  /** Tails with publications, least recently appended to first. */
  readonly #tails = new Set<BudgetedTail>();
  #bytes = 0;

  constructor(options: { maxBytes?: number } = {}) {
    this.#maxBytes = options.maxBytes ?? maxNodeBytes;
  }

  /** Approximate memory of all tails. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @param bytes negative where a tail returns them. */
  count(bytes: number): void {
    this.#bytes += bytes;
  }

  /** A publication was appended to the tail: it is evicted last. */
  appended(tail: BudgetedTail): void {
    this.#tails.delete(tail);
    this.#tails.add(tail);
  }

  /** The tail has publications. Its place in the order of eviction stays. */
  track(tail: BudgetedTail): void {
    this.#tails.add(tail);
  }

  /** The tail has no publications left. */
  untrack(tail: BudgetedTail): void {
    this.#tails.delete(tail);
  }

  /** Drops tails until the rest fits. */
  evict(): void {
    for (const tail of this.#tails) {
      if (this.#bytes <= this.#maxBytes) return;
      tail.drop();
    }
  }
}
