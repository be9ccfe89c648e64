/** At most so many at once; the rest waits in order, bounded in number and time. */
export class ConcurrencyLimit {
  readonly #maxWaiting: number;
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(options: { maxInFlight: number; maxWaiting: number }) {
    this.#free = options.maxInFlight;
    this.#maxWaiting = options.maxWaiting;
  }

  /** False: not within the time, or too many wait already. True: the caller calls {@link release} afterwards. */
  async acquire(waitMs: number): Promise<boolean> {
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    if (this.#waiting.size >= this.#maxWaiting) return false;
    return new Promise((resolve) => {
      const admit = (): void => {
        clearTimeout(timer);
        resolve(true);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(admit);
        resolve(false);
      }, waitMs);
      this.#waiting.add(admit);
    });
  }

  release(): void {
    const [next] = this.#waiting;
    if (next) {
      this.#waiting.delete(next);
      next();
    } else this.#free++;
  }
}
