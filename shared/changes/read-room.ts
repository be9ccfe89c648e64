/** What is left of the bounds while several slots are read. Slots read at once have the same room each; {@link ReadRoom.take} cuts the excess off. Pure. */
import type { ReadBounds, SlotRead } from "./contract.ts";

export class ReadRoom {
  #limit: number;
  #maxBytes: number;
  #hasTaken = false;
  #isUsedUp = false;

  constructor({ limit, maxBytes }: Pick<ReadBounds, "limit" | "maxBytes">) {
    this.#limit = limit;
    this.#maxBytes = maxBytes;
  }

  get limit(): number {
    return this.#limit;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** No slot after this one may be read. */
  get isUsedUp(): boolean {
    return this.#isUsedUp || this.#limit <= 0 || this.#maxBytes <= 0;
  }

  /** @returns the read, cut off where the room ends; undefined: there is none. The very first change is kept whatever its size */
  take(read: SlotRead): SlotRead | undefined {
    const sizes =
      read.rows?.changes.map(({ bytes }) => bytes) ?? read.changes.map(({ data }) => Buffer.byteLength(data));
    let count = 0;
    for (const bytes of sizes) {
      if (this.#limit <= 0 || (this.#hasTaken && bytes > this.#maxBytes)) break;
      this.#hasTaken = true;
      this.#limit--;
      this.#maxBytes -= bytes;
      count++;
    }
    if (count === sizes.length) return read;
    this.#isUsedUp = true;
    return upTo(read, count);
  }
}

function upTo(read: SlotRead, count: number): SlotRead | undefined {
  const changes = read.changes.slice(0, count);
  const rows = read.rows && { ...read.rows, changes: read.rows.changes.slice(0, count) };
  const last = (rows ? rows.changes : changes).at(-1);
  return last && { ...read, changes, ...(rows && { rows }), place: last.place };
}
