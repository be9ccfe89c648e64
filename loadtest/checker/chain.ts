/** The predecessors of one channel's publications, merged from what clients, publishers and history report. Pure. */
import type { Position } from "../../shared/protocol/wire.ts";

/** One publication. `item` identifies it among all publications of the run. */
export interface ChainItem {
  readonly offset: number;
  readonly prev: number;
  readonly item: string;
}

interface Entry {
  item: string;
  /** Undefined while only the answer to its publisher is known. */
  prev: number | undefined;
}

/** The distance between two positions; `unknown` where the predecessor of a publication between them is unknown. */
export type Distance = { kind: "reached"; publications: number } | { kind: "not in it" } | { kind: "unknown" };

/** Its size grows with the publications of a run, not with the clients. */
export class Chain {
  readonly #epochs = new Map<string, Map<number, Entry>>();
  readonly #newest = new Map<string, number>();

  /** @returns the contradiction, if any: one offset with two publications, or with two predecessors. */
  add(epoch: string, { offset, prev, item }: Omit<ChainItem, "prev"> & { prev?: number }): string | undefined {
    let entries = this.#epochs.get(epoch);
    if (!entries) this.#epochs.set(epoch, (entries = new Map()));
    const known = entries.get(offset);
    if (!known) {
      entries.set(offset, { item, prev });
      this.#newest.set(epoch, Math.max(offset, this.#newest.get(epoch) ?? 0));
      return undefined;
    }
    if (known.item !== item) return `${epoch}/${offset} is both ${known.item} and ${item}`;
    if (known.prev !== undefined && prev !== undefined && known.prev !== prev) {
      return `${epoch}/${offset} follows both ${known.prev} and ${prev}`;
    }
    known.prev ??= prev;
    return undefined;
  }

  /** The newest position reported so far. */
  newest(epoch: string): Position {
    return { epoch, offset: this.#newest.get(epoch) ?? 0 };
  }

  /** Follows the predecessors back from `to` to `from`. */
  distance(from: Position, to: Position): Distance {
    if (from.epoch !== to.epoch) return { kind: "not in it" };
    let publications = 0;
    for (const offset of this.#back(to)) {
      if (offset === from.offset) return { kind: "reached", publications };
      if (offset === undefined) return { kind: "unknown" };
      if (offset < from.offset) break;
      publications++;
    }
    return { kind: "not in it" };
  }

  /** Offsets back from a position as far as predecessors are known; `whole`: back to the start of the channel. */
  offsets(position: Position): { offsets: ReadonlySet<number>; whole: boolean } {
    const offsets = new Set<number>();
    for (const offset of this.#back(position)) {
      if (offset === undefined) return { offsets, whole: false };
      offsets.add(offset);
    }
    return { offsets, whole: true };
  }

  /** Ends with 0, the start of the channel, or with undefined, where a predecessor is unknown. */
  *#back({ epoch, offset }: Position): Generator<number | undefined> {
    const entries = this.#epochs.get(epoch);
    let at: number | undefined = offset;
    while (at !== undefined) {
      yield at;
      if (at === 0) return;
      const prev: number | undefined = entries?.get(at)?.prev;
      // A predecessor with a higher offset would never end the loop.
      at = prev !== undefined && prev < at ? prev : undefined;
    }
    yield undefined;
  }
}
