/**
 * Workers for endpoints that nothing ready wants: what is queued now may be delivered at once, without a claim. Workers that become free
 * belong to what is ready, and count as spare only once the dispatcher has chosen what to claim.
 */

/** For the next spare worker. */
const maxWaitMs = 50;
/** Since a worker was taken, others are expected to be taken soon. */
const wantedForMs = 1_000;

export class SpareWorkers {
  #spare = 0;
  #takenAt = -Infinity;
  /** Taken for items that are on their way to the store. */
  #coming = 0;
  readonly #waiting = new Set<() => void>();
  #whenNoneComes: (() => void) | undefined;

  /** @param spare free workers, without those that were asked to claim something */
  set(spare: number): void {
    this.#spare = spare;
    if (spare > 0) for (const each of this.#waiting) each();
  }

  get any(): boolean {
    return this.#spare > 0;
  }

  /** For an item that is sent to the store. The caller calls {@link arrived} once it has the answer. */
  take(nowMs: number): void {
    this.#spare--;
    this.#coming++;
    this.#takenAt = nowMs;
  }

  /** Whether what is queued keeps taking workers. */
  areWanted(nowMs: number): boolean {
    return nowMs - this.#takenAt < wantedForMs;
  }

  arrived(): void {
    if (--this.#coming === 0) this.#whenNoneComes?.();
  }

  /** Call it where none is spare. @returns whether one was within {@link maxWaitMs} */
  next(): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (isSpare: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve(isSpare);
      };
      const wake = (): void => end(true);
      const timer = setTimeout(() => end(false), maxWaitMs);
      this.#waiting.add(wake);
    });
  }

  /** Resolves once no item is on its way to the store. */
  async settled(): Promise<void> {
    if (this.#coming > 0) await new Promise<void>((resolve) => (this.#whenNoneComes = resolve));
  }
}
