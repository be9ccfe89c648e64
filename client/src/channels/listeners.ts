/**
 * Listeners, called in the order in which they were added. An error that one throws reaches the environment as uncaught
 * and does not keep the others from being called.
 */
export class Listeners<Args extends unknown[]> {
  readonly #entries = new Set<{ listener: (...args: Args) => void }>();

  /** Returns a function that removes the listener. */
  add(listener: (...args: Args) => void): () => void {
    const entry = { listener };
    this.#entries.add(entry);
    return () => void this.#entries.delete(entry);
  }

  get size(): number {
    return this.#entries.size;
  }

  call(...args: Args): void {
    for (const entry of [...this.#entries]) {
      if (!this.#entries.has(entry)) continue;
      try {
        entry.listener(...args);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** Listeners by event name. */
export class EventListeners<Args extends unknown[]> {
  readonly #byEvent = new Map<string, Listeners<Args>>();

  add(event: string, listener: (...args: Args) => void): () => void {
    const listeners = this.#byEvent.get(event) ?? new Listeners<Args>();
    this.#byEvent.set(event, listeners);
    const remove = listeners.add(listener);
    return () => {
      remove();
      if (listeners.size === 0 && this.#byEvent.get(event) === listeners) this.#byEvent.delete(event);
    };
  }

  call(event: string, ...args: Args): void {
    this.#byEvent.get(event)?.call(...args);
  }
}
