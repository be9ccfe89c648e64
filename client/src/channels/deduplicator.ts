/** The oldest message is forgotten first. */
const maxRemembered = 1_000;
const maxCharacters = 1024 * 1024;
/** The same message on another connection counts as new after this time. */
const memoryMs = 2_000;

interface Remembered {
  /** First arrival, on any connection. */
  atMs: number;
  counts: Map<object, number>;
}

/**
 * Drops what has no offset (ephemeral publications, joins, leaves) and a second connection brings again during a move.
 * Compares the content: of equal messages it lets as many pass as one connection brings.
 */
export class Deduplicator {
  readonly #remembered = new Map<string, Remembered>();
  /** Of the keys. */
  #characters = 0;
  #activeUntilMs = 0;

  start(): void {
    this.#activeUntilMs = Number.POSITIVE_INFINITY;
  }

  /** Takes effect after 2 s: the one connection left may lag behind the closed one. */
  stop(): void {
    this.#activeUntilMs = Math.min(this.#activeUntilMs, performance.now() + memoryMs);
  }

  /** @param content all that distinguishes this message from others, as JSON */
  isNew(connection: object, ...content: unknown[]): boolean {
    const nowMs = performance.now();
    if (nowMs > this.#activeUntilMs) {
      this.#remembered.clear();
      this.#characters = 0;
      return true;
    }
    const key = JSON.stringify(content);
    const known = this.#remembered.get(key);
    const { atMs, counts } = known && nowMs - known.atMs < memoryMs ? known : { atMs: nowMs, counts: new Map() };
    const count = (counts.get(connection) ?? 0) + 1;
    const isNew = count > Math.max(0, ...counts.values());
    if (!known) this.#characters += key.length;
    this.#remembered.set(key, { atMs, counts: counts.set(connection, count) });
    this.#forgetOldest();
    return isNew;
  }

  #forgetOldest(): void {
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= maxRemembered && this.#characters <= maxCharacters) return;
      this.#remembered.delete(oldest);
      this.#characters -= oldest.length;
    }
  }
}
