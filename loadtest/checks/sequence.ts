/** Checks the publications that one client sees of one channel: each once and in order. Imports nothing: k6 runs it, too. */

/** Bounds the memory of one check when very much is lost. */
const maxMissing = 10_000;

export class Sequence {
  #last: number;
  readonly #missing = new Set<number>();
  received = 0;
  doubled = 0;
  reordered = 0;
  /** Times that the gateway announced a gap: `sync:resync`, or a subscribe that did not recover. */
  signalled = 0;

  /** @param offset the position of the subscription: the first publication follows this one. */
  constructor(offset: number) {
    this.#last = offset;
  }

  /** The newest offset that the client knows of. */
  get reached(): number {
    return this.#last;
  }

  /** Offsets that are missing although a later one came. */
  get lost(): number {
    return this.#missing.size;
  }

  /** Publications lost, doubled or out of order. */
  get faults(): number {
    return this.lost + this.doubled + this.reordered;
  }

  /**
   * @param prev the offset before this one in the channel.
   * @returns false for a publication that came before.
   */
  take(offset: number, prev: number = offset - 1): boolean {
    if (offset > this.#last) {
      this.received++;
      // The channel's history changed under this client: its last publication is not the predecessor.
      if (prev < this.#last) this.reordered++;
      this.#miss(prev);
      this.#last = offset;
      return true;
    }
    if (this.#missing.delete(offset)) {
      this.received++;
      this.reordered++;
      return true;
    }
    this.doubled++;
    return false;
  }

  /** The gateway says that the client has everything up to `offset`: what is missing before it is lost. */
  standAt(offset: number): void {
    this.#miss(offset);
    this.#last = Math.max(this.#last, offset);
  }

  /** The gateway announces a gap: the client continues at `offset`. */
  resync(offset: number): void {
    this.signalled++;
    this.#last = Math.max(this.#last, offset);
  }

  #miss(upTo: number): void {
    for (let gap = this.#last + 1; gap <= upTo && this.#missing.size < maxMissing; gap++) this.#missing.add(gap);
  }
}
