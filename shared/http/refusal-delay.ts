/** What a peer is made to wait that asks in vain, or for too much: on each of its connections it can do so twice a second. */
const delayMs = 500;

export class RefusalDelay {
  readonly #max: number;
  #delayed = 0;

  /** @param max that wait at a time; past it nobody does. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Calls `refuse` late, or at once where too many wait. */
  before(refuse: () => void): void {
    if (this.#delayed >= this.#max) return refuse();
    this.#delayed++;
    setTimeout(() => {
      this.#delayed--;
      refuse();
    }, delayMs).unref();
  }
}
