/** What one client has seen of one channel: whether every publication came once and in its place. k6 reads this, too. */

/** Bounds the memory of one client's check when a great deal is lost. */
const maxMissing = 10_000;

export class Sequence {
  #last: number;
  readonly #missing = new Set<number>();
  received = 0;
  doubled = 0;
  reordered = 0;
  /** Times it was told that something cannot be brought. */
  signalled = 0;

  /** @param offset where the subscription stands: the first publication follows this one. */
  constructor(offset: number) {
    this.#last = offset;
  }

  /** The newest publication that it knows of. */
  get reached(): number {
    return this.#last;
  }

  /** Offsets that have not come although a later one has. */
  get lost(): number {
    return this.#missing.size;
  }

  /**
   * @param prev the offset before it in the channel.
   * @returns whether it is news.
   */
  take(offset: number, prev: number = offset - 1): boolean {
    if (offset > this.#last) {
      this.received++;
      // The channel's history has changed under this client: what it holds is not what comes before.
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

  /** It stands here now, it is said: what it lacks up to here is lost. */
  standAt(offset: number): void {
    this.#miss(offset);
    this.#last = Math.max(this.#last, offset);
  }

  /** It was told that it lacks what is before `offset`. */
  resync(offset: number): void {
    this.signalled++;
    this.#last = Math.max(this.#last, offset);
  }

  #miss(upTo: number): void {
    for (let gap = this.#last + 1; gap <= upTo && this.#missing.size < maxMissing; gap++) this.#missing.add(gap);
  }
}
