/** Requests of one client that have no answer yet. */
export class OpenRequests {
  #count = 0;
  #whenNone: (() => void) | undefined;

  /** @returns to be called once it is answered. */
  begin(): () => void {
    this.#count++;
    return () => {
      this.#count--;
      if (this.#count > 0) return;
      const callback = this.#whenNone;
      this.#whenNone = undefined;
      callback?.();
    };
  }

  /** Calls back once there is none; at once where that is so. One caller at a time. */
  whenNone(callback: () => void): void {
    if (this.#count === 0) callback();
    else this.#whenNone = callback;
  }
}
