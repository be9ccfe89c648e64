/** Bounds the memory of one client's check when a great deal is lost. */
const maxMissing = 10_000;

/** One client's view of one channel: says of every publication whether it came once and in its place. */
export class DeliveryCheck {
  #last;
  #missing = new Set();
  received = 0;
  doubled = 0;
  reordered = 0;

  /** @param offset where the subscription stands: the first publication follows this one */
  constructor(offset) {
    this.#last = offset;
  }

  /** @param prev the offset before it in the channel */
  take(offset, prev = offset - 1) {
    if (offset > this.#last) {
      this.received++;
      // The channel's history has changed under this client: what it holds is not what comes before.
      if (prev < this.#last) this.reordered++;
      for (let gap = this.#last + 1; gap <= prev && this.#missing.size < maxMissing; gap++) this.#missing.add(gap);
      this.#last = offset;
    } else if (this.#missing.delete(offset)) {
      this.received++;
      this.reordered++;
    } else {
      this.doubled++;
    }
  }

  /** Offsets that have not come although a later one has. */
  get lost() {
    return this.#missing.size;
  }
}
