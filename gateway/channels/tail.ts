/**
 * The last publications that this node delivered on one channel. Clients that return get what they missed from here, without a
 * read of Redis. A tail has at most what history keeps, and at most what may be replayed at once (`#trim`); all tails of a node
 * share the memory of a {@link TailBudget}. Pure: its owner reads history where the tail has no answer, and adds what it read.
 */
import type { HistorySlice, Position, Publication, Retention } from "../../shared/channels/contract.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { type Bridge, bridge, type Reading } from "./recovery.ts";
import type { TailBudget } from "./tail-budget.ts";

/** What history has before the first publication of a tail: nothing, more than may be replayed, or not known yet. */
type Before = "nothing kept" | "too much" | "unknown";

interface TailEntry {
  publication: Publication;
  /** Of its data, as history counts them. */
  bytes: number;
}

/** Approximate memory of a publication besides its data: objects, name, offsets. */
const overheadBytes = 200;
/** The newest ones are kept. Epochs are random: one that was refuted once never becomes current. */
const maxRefutedEpochs = 8;

export class Tail {
  readonly #budget: TailBudget;
  /** Undefined: the tail knows nothing. */
  #epoch: string | undefined;
  /** The tail has every publication after this offset, up to `#end`. */
  #start = 0;
  #end = 0;
  /** Along `prev`, from `#start` to `#end`. */
  #entries: TailEntry[] = [];
  #bytes = 0;
  #before: Before = "unknown";
  /** History was read once for this tail. */
  #probed = false;
  /** By `performance.now()`, which no step of the machine's clock moves: history is kept until then. */
  #keptUntil = Number.POSITIVE_INFINITY;
  /** Epochs that clients claimed, and that are not the channel's. */
  #refutedEpochs: Set<string> | undefined;

  constructor(budget: TailBudget) {
    this.#budget = budget;
  }

  /**
   * The channel has delivered a publication.
   * @param now by `performance.now()`, here and below.
   */
  append(epoch: string, publication: Publication, retention: Retention, now: number): void {
    // Past `#keptUntil` history has dropped what was published before.
    if (this.#epoch !== epoch || this.#end !== publication.prev || now >= this.#keptUntil) {
      this.restart({ epoch, offset: publication.prev });
    }
    const bytes = Buffer.byteLength(publication.data);
    this.#entries.push({ publication, bytes });
    this.#end = publication.offset;
    this.#keptUntil = now + retention.historySeconds * 1000;
    this.#count(bytes, 1);
    this.#budget.appended(this);
    this.#trim(retention);
    this.#budget.evict();
  }

  /** Deliveries continue after `at`: nothing is known of what was before it. */
  restart(at: Position): void {
    const before = this.#epoch;
    this.#clear();
    this.#epoch = at.epoch;
    this.#start = at.offset;
    this.#end = at.offset;
    this.#before = "unknown";
    this.#probed = false;
    this.#keptUntil = Number.POSITIVE_INFINITY;
    if (before === at.epoch) return;
    this.#refutedEpochs = undefined;
    if (before !== undefined) this.refute(before, at);
  }

  /** History that was read up to `offset` is kept until then. */
  keepUntil(offset: number, until: number): void {
    if (this.#epoch !== undefined && this.#end === offset) this.#keptUntil = Math.min(this.#keptUntil, until);
  }

  /** Forgets everything. */
  drop(): void {
    this.#clear();
    this.#epoch = undefined;
    this.#probed = false;
    this.#refutedEpochs = undefined;
  }

  /**
   * What a client at `from` has missed, or why history cannot tell.
   * @param at where the channel stands.
   * @returns undefined where history has to be read.
   */
  answer(from: Position, at: Position, now: number): Bridge | undefined {
    const isCurrent = this.#epoch === at.epoch && this.#end === at.offset;
    if (from.epoch !== at.epoch) {
      return isCurrent && this.#refutedEpochs?.has(from.epoch)
        ? { kind: "broken", reason: "epoch_changed" }
        : undefined;
    }
    if (from.offset === at.offset) return { kind: "bridged", publications: [], position: at };
    if (!isCurrent || from.offset > at.offset || now >= this.#keptUntil) return undefined;
    if (from.offset >= this.#start) {
      return bridge(from, { position: at, publications: this.#publicationsAfter(from.offset), more: false });
    }
    if (this.#before === "unknown") return undefined;
    return { kind: "broken", reason: this.#before === "too much" ? "too_far_behind" : "history_trimmed" };
  }

  /** How to read history for clients of which the last stands at `offset`: first from there, later for all positions. */
  reading(offset: number): Reading {
    return this.#probed ? { kind: "newest" } : { kind: "after", offset };
  }

  /**
   * Takes in what was read from history, as far as it joins.
   * @param at where the channel stands now; publications read beyond it are going to be appended.
   */
  extend(
    at: Position,
    slice: HistorySlice,
    reading: Reading,
    { retention, now }: { retention: Retention; now: number },
  ): void {
    if (slice.position.epoch !== at.epoch) return;
    if (this.#epoch !== at.epoch || this.#end !== at.offset || now >= this.#keptUntil) this.restart(at);
    this.#probed = true;
    if (!this.#prepend(slice.publications)) return;
    const oldest = slice.publications[0]?.prev ?? slice.position.offset;
    // Nothing is kept before the oldest of a complete read: it began before the tail does, and found less.
    if (oldest >= this.#start && !(reading.kind === "after" && (slice.more || oldest <= reading.offset))) {
      this.#before = slice.more ? "too much" : "nothing kept";
    }
    if (slice.keptForMs !== undefined && slice.position.offset >= this.#end) {
      this.#keptUntil = Math.min(this.#keptUntil, now + slice.keptForMs);
    }
    this.#trim(retention);
    this.#budget.evict();
  }

  /** The broker was asked: `epoch` is not the channel's. */
  refute(epoch: string, at: Position): void {
    if (this.#epoch !== at.epoch) this.restart(at);
    const refuted = (this.#refutedEpochs ??= new Set());
    refuted.add(epoch);
    for (const oldest of refuted) {
      if (refuted.size <= maxRefutedEpochs) break;
      refuted.delete(oldest);
    }
  }

  /** @returns false where publications are missing between these and the tail. */
  #prepend(publications: readonly Publication[]): boolean {
    const start = this.#start;
    const older = publications.filter(({ offset }) => offset <= start);
    if (older.length === 0) return true;
    if (older.at(-1)?.offset !== start) return false;
    const entries = older.map((publication) => ({ publication, bytes: Buffer.byteLength(publication.data) }));
    this.#entries = [...entries, ...this.#entries];
    for (const { bytes } of entries) this.#count(bytes, 1);
    this.#start = older[0]?.prev ?? start;
    this.#budget.track(this);
    return true;
  }

  /** Drops the oldest publications, down to what history keeps and to what may be replayed. */
  #trim({ historySize }: Retention): void {
    let dropped = 0;
    for (const { publication, bytes } of this.#entries) {
      const count = this.#entries.length - dropped;
      const pastHistory = count > historySize;
      if (!pastHistory && count <= maxReplayPublications && this.#bytes <= maxReplayBytes) break;
      this.#before = pastHistory ? "nothing kept" : "too much";
      this.#start = publication.offset;
      this.#count(bytes, -1);
      dropped++;
    }
    if (dropped === 0) return;
    this.#entries.splice(0, dropped);
    if (this.#entries.length === 0) this.#budget.untrack(this);
  }

  #count(bytes: number, sign: 1 | -1): void {
    this.#bytes += sign * bytes;
    this.#budget.count(sign * (bytes + overheadBytes));
  }

  #clear(): void {
    this.#budget.count(-this.#bytes - this.#entries.length * overheadBytes);
    this.#budget.untrack(this);
    this.#entries = [];
    this.#bytes = 0;
  }

  #publicationsAfter(offset: number): Publication[] {
    const entries = this.#entries;
    let low = 0;
    let high = entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((entries[middle]?.publication.offset ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return entries.slice(low).map(({ publication }) => publication);
  }
}
