/** So many messages are remembered; the oldest is forgotten first. */
const maxRemembered = 1_000;
/** How much later than one connection another may bring the same message; after that it is a new one. */
const memoryMs = 2_000;

interface Brought {
  /** First, by any connection. */
  atMs: number;
  counts: Map<object, number>;
}

/**
 * Messages without an offset, while several connections may bring the same ones: what one has brought is not let pass
 * when another brings it, too. Told apart by what they say: of equal ones as many pass as one connection brings.
 */
export class Doubles {
  readonly #brought = new Map<string, Brought>();
  #watchesUntilMs = 0;

  watch(): void {
    this.#watchesUntilMs = Number.POSITIVE_INFINITY;
  }

  /** There is one connection again, which may be a little behind the one that was left. */
  stop(): void {
    this.#watchesUntilMs = Math.min(this.#watchesUntilMs, performance.now() + memoryMs);
  }

  /** @param words all that tells this message from another, as JSON */
  passes(connection: object, ...words: unknown[]): boolean {
    const nowMs = performance.now();
    if (nowMs > this.#watchesUntilMs) {
      this.#brought.clear();
      return true;
    }
    const text = JSON.stringify(words);
    const known = this.#brought.get(text);
    const { atMs, counts } = known && nowMs - known.atMs < memoryMs ? known : newlyBrought(nowMs);
    const count = (counts.get(connection) ?? 0) + 1;
    const passes = count > Math.max(0, ...counts.values());
    this.#brought.set(text, { atMs, counts: counts.set(connection, count) });
    const [oldest] = this.#brought.keys();
    if (this.#brought.size > maxRemembered && oldest !== undefined) this.#brought.delete(oldest);
    return passes;
  }
}

function newlyBrought(atMs: number): Brought {
  return { atMs, counts: new Map() };
}
