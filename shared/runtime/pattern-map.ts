import { Counts } from "./counts.ts";

/** Values by pattern: an exact name, or a prefix and a final `*`. Finds those of a name without a look at the others. Pure. */
export class PatternMap<Value> {
  readonly #values = new Map<string, Value>();
  /** Length of a prefix → patterns with it. */
  readonly #lengths = new Counts<number>();

  get isEmpty(): boolean {
    return this.#values.size === 0;
  }

  get values(): Iterable<Value> {
    return this.#values.values();
  }

  get(pattern: string): Value | undefined {
    return this.#values.get(pattern);
  }

  getOrAdd(pattern: string, create: () => Value): Value {
    const known = this.#values.get(pattern);
    if (known !== undefined) return known;
    const value = create();
    this.#values.set(pattern, value);
    if (pattern.endsWith("*")) this.#lengths.add(pattern.length - 1, 1);
    return value;
  }

  delete(pattern: string): void {
    if (this.#values.delete(pattern) && pattern.endsWith("*")) this.#lengths.add(pattern.length - 1, -1);
  }

  /** Those whose pattern matches the name: one look for each length of prefixes. */
  *matching(name: string): Iterable<Value> {
    const exact = this.#values.get(name);
    if (exact !== undefined) yield exact;
    for (const length of this.#lengths.keys) {
      const value = length <= name.length ? this.#values.get(`${name.slice(0, length)}*`) : undefined;
      if (value !== undefined) yield value;
    }
  }
}
