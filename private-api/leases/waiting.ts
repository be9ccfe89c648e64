/** Pauses of one loop, which a notice or the stop of the loop ends early. */
export class Waiting {
  #wake: (() => void) | undefined;
  #isNoticed = false;
  #isStopped = false;

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** A notice came after the last pause, or after the last {@link takeNotice}. */
  get hasNotice(): boolean {
    return this.#isNoticed;
  }

  /** Ends the present pause, or the next one. */
  wake(): void {
    this.#isNoticed = true;
    this.#wake?.();
  }

  stop(): void {
    this.#isStopped = true;
    this.#wake?.();
  }

  /** Forgets notices that came before a read: the read finds what they announced. @returns whether there was a notice */
  takeNotice(): boolean {
    const isNoticed = this.#isNoticed;
    this.#isNoticed = false;
    return isNoticed;
  }

  /** @returns whether a notice ended it */
  async wait(ms: number): Promise<boolean> {
    if (!this.#isNoticed && !this.#isStopped) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, ms);
      this.#wake = resolve;
      await promise;
      clearTimeout(timer);
      this.#wake = undefined;
    }
    return this.takeNotice();
  }
}
