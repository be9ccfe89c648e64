/** A count for each key; a key at 0 is not kept. Pure. */
export class Counts<Key> {
  readonly #counts = new Map<Key, number>();

  of(key: Key): number {
    return this.#counts.get(key) ?? 0;
  }

  get keys(): Iterable<Key> {
    return this.#counts.keys();
  }

  add(key: Key, by: 1 | -1): void {
    const count = this.of(key) + by;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
  }
}
