/** Limits a misbehaving peer to two attempts a second on each of its connections. */
const delayMs = 500;

export class RefusalDelay {
  readonly #max: number;
  #delayed = 0;

  /** @param max delayed refusals at a time; further ones are not delayed. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Calls `refuse` after the delay, or at once if too many are delayed already. */
  before(refuse: () => void): void {
    if (this.#delayed >= this.#max) return refuse();
    this.#delayed++;
    setTimeout(() => {
      this.#delayed--;
      refuse();
    }, delayMs).unref();
  }
}
