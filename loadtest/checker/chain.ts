/** Which publication follows on which, as clients, publishers and history say it; one for each channel. Pure. */
import type { Position } from "../../shared/protocol/wire.ts";

/** A publication as it is known: `item` names it among all that were ever published. */
export interface ChainItem {
  readonly offset: number;
  readonly prev: number;
  readonly item: string;
}

interface Link {
  item: string;
  /** Undefined while only its publisher's answer is known. */
  prev: number | undefined;
}

/** How far back a position is from another: `unknown` where a link between them was never seen. */
export type Distance = { kind: "reached"; publications: number } | { kind: "not in it" } | { kind: "unknown" };

/** Grows with the publications of a run, not with its clients. */
export class Chain {
  readonly #epochs = new Map<string, Map<number, Link>>();
  readonly #newest = new Map<string, number>();

  /** @returns what contradicts what is known: an offset that stands for two publications, or follows on two. */
  add(epoch: string, { offset, prev, item }: Omit<ChainItem, "prev"> & { prev?: number }): string | undefined {
    let links = this.#epochs.get(epoch);
    if (!links) this.#epochs.set(epoch, (links = new Map()));
    const known = links.get(offset);
    if (!known) {
      links.set(offset, { item, prev });
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

  /** The furthest that anybody has heard of up to now. */
  newest(epoch: string): Position {
    return { epoch, offset: this.#newest.get(epoch) ?? 0 };
  }

  /** The way back from one position to an earlier one. */
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

  /** Offsets from a position back, as far as the links are known; `whole`: to the beginning of the history. */
  offsets(position: Position): { offsets: ReadonlySet<number>; whole: boolean } {
    const offsets = new Set<number>();
    for (const offset of this.#back(position)) {
      if (offset === undefined) return { offsets, whole: false };
      offsets.add(offset);
    }
    return { offsets, whole: true };
  }

  /** Ends with 0, the beginning, or with undefined, where a link is not known. */
  *#back({ epoch, offset }: Position): Generator<number | undefined> {
    const links = this.#epochs.get(epoch);
    let at: number | undefined = offset;
    while (at !== undefined) {
      yield at;
      if (at === 0) return;
      const prev: number | undefined = links?.get(at)?.prev;
      // A link that does not lead back would never end.
      at = prev !== undefined && prev < at ? prev : undefined;
    }
    yield undefined;
  }
}
