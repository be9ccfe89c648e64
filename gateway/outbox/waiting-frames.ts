import type { Frame } from "./frames.ts";

/**
 * The queue of one connection. From `conflateFromBytes` on, and until the queue is empty, a frame replaces the older one
 * with its conflation key and goes to the end, so that offsets keep growing.
 */
export class WaitingFrames {
  readonly #conflateFromBytes: number;
  readonly #onConflated: (frames: number) => void;
  #bytes = 0;
  /** The whole queue while it is short. */
  #list: Frame[] = [];
  /** Frames of the list with a conflation key. */
  #withKey = 0;
  /** The whole queue while it is long: by conflation key, or a number where a frame has none. In the order of insertion. */
  #conflated: Map<string | number, Frame> | undefined;
  #lastNumber = 0;

  /** @param options.onConflated with the number of frames that newer ones replaced. */
  constructor(options: { conflateFromBytes: number; onConflated: (frames: number) => void }) {
    this.#conflateFromBytes = options.conflateFromBytes;
    this.#onConflated = options.onConflated;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(frame: Frame): void {
    this.#bytes += frame.bytes;
    if (this.#conflated) {
      if (this.#replace(this.#conflated, frame)) this.#onConflated(1);
      return;
    }
    this.#list.push(frame);
    if (frame.conflationKey !== undefined) this.#withKey++;
    if (this.#withKey > 0 && this.#bytes > this.#conflateFromBytes) this.#conflate();
  }

  /** Removes the oldest frames: up to `maxBytes`, and at least one unless the queue is empty. */
  take(maxBytes: number): readonly Frame[] {
    if (!this.#conflated) return this.#takeFromList(maxBytes);
    const taken: Frame[] = [];
    let bytes = 0;
    for (const [key, frame] of this.#conflated) {
      if (taken.length > 0 && bytes + frame.bytes > maxBytes) break;
      bytes += frame.bytes;
      taken.push(frame);
      this.#conflated.delete(key);
    }
    this.#bytes -= bytes;
    if (this.#bytes === 0) this.#conflated = undefined;
    return taken;
  }

  clear(): void {
    this.#bytes = 0;
    this.#list = [];
    this.#withKey = 0;
    this.#conflated = undefined;
  }

  #takeFromList(maxBytes: number): readonly Frame[] {
    if (this.#bytes <= maxBytes) {
      const all = this.#list;
      this.clear();
      return all;
    }
    let bytes = 0;
    let count = 0;
    for (const frame of this.#list) {
      if (count > 0 && bytes + frame.bytes > maxBytes) break;
      bytes += frame.bytes;
      count++;
      if (frame.conflationKey !== undefined) this.#withKey--;
    }
    this.#bytes -= bytes;
    return this.#list.splice(0, count);
  }

  #conflate(): void {
    const list = this.#list;
    this.#list = [];
    this.#withKey = 0;
    this.#conflated = new Map();
    let replaced = 0;
    for (const frame of list) if (this.#replace(this.#conflated, frame)) replaced++;
    if (replaced > 0) this.#onConflated(replaced);
  }

  /** @returns whether an older frame was replaced. */
  #replace(frames: Map<string | number, Frame>, frame: Frame): boolean {
    const key = frame.conflationKey ?? this.#lastNumber++;
    const older = frames.get(key);
    if (older) {
      this.#bytes -= older.bytes;
      frames.delete(key);
    }
    frames.set(key, frame);
    return older !== undefined;
  }
}
