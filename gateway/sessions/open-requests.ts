/** Counts the requests of one client that wait for an answer. */
export class OpenRequests {
  #count = 0;
  #whenNone: (() => void) | undefined;

  /** @returns to be called once, when the request is answered. */
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

  /** Calls back once no request waits, at once where none does. One caller at a time. */
  whenNone(callback: () => void): void {
    if (this.#count === 0) callback();
    else this.#whenNone = callback;
  }
}
