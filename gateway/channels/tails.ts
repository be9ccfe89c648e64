/**
 * The last publications of each followed channel, as the hub delivered them: whoever comes back is answered from here,
 * as far as it reaches. Pure: it says where it does not know, and is told what was read from history.
 */
import type { HistorySlice, Position, Publication, Retention } from "../../shared/channels/contract.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { type Bridge, bridge, type Reading } from "./recovery.ts";

/** What is before the first publication of a tail: nothing that is kept, more than may be replayed, or nobody asked. */
type Before = "nothing kept" | "too much" | "unknown";

interface Held {
  publication: Publication;
  /** Of its data, as history counts them. */
  bytes: number;
}

interface Tail {
  epoch: string;
  /** The position after which everything is held. */
  start: number;
  /** Along `prev`, from `start` to `end`. */
  held: Held[];
  end: number;
  bytes: number;
  before: Before;
  /** History was read for it once. */
  probed: boolean;
  /** Unix ms: its history is kept until then. */
  keptUntil: number;
  /** Claimed by clients, and of no history that is known. */
  refutedEpochs: Set<string>;
}

/** Of all tails of a node. */
const maxNodeBytes = 64 * 1024 * 1024;
/** What a publication costs besides its data, roughly: objects, name, offsets. */
const overheadBytes = 200;
/** Epochs are random: one that was never current is not going to be. */
const maxRefutedEpochs = 8;

export class Tails {
  readonly #maxBytes: number;
  /** Least recently appended to first. */
  readonly #tails = new Map<string, Tail>();
  #bytes = 0;

  constructor(options: { maxBytes?: number } = {}) {
    this.#maxBytes = options.maxBytes ?? maxNodeBytes;
  }

  /** Of memory, roughly. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * The hub has delivered a publication.
   * @param now Unix ms.
   */
  append(channel: string, epoch: string, publication: Publication, retention: Retention, now: number): void {
    let tail = this.#tails.get(channel);
    // What was published before may have gone meanwhile.
    if (!tail || tail.epoch !== epoch || tail.end !== publication.prev || now >= tail.keptUntil) {
      tail = this.#begin(channel, { epoch, offset: publication.prev }, tail);
    }
    const bytes = Buffer.byteLength(publication.data);
    tail.held.push({ publication, bytes });
    tail.end = publication.offset;
    tail.keptUntil = now + retention.historySeconds * 1000;
    this.#count(tail, bytes, 1);
    this.#tails.delete(channel);
    this.#tails.set(channel, tail);
    this.#bound(tail, retention);
    this.#evict();
  }

  /** History did not bridge: the hub goes on from here. */
  restart(channel: string, at: Position): void {
    this.#begin(channel, at, this.#tails.get(channel));
  }

  /** History that was read up to `offset` is kept until then. */
  keepUntil(channel: string, offset: number, until: number): void {
    const tail = this.#tails.get(channel);
    if (tail?.end === offset) tail.keptUntil = Math.min(tail.keptUntil, until);
  }

  /** Nothing is known any more. */
  drop(channel: string): void {
    const tail = this.#tails.get(channel);
    if (!tail) return;
    this.#clear(tail);
    this.#tails.delete(channel);
  }

  /**
   * What a client that stands at `from` has missed, or why that cannot be told.
   * @param at where the hub stands.
   * @returns undefined where history has to be asked.
   */
  answer(channel: string, from: Position, at: Position, now: number): Bridge | undefined {
    const known = this.#tails.get(channel);
    const tail = known?.epoch === at.epoch && known.end === at.offset ? known : undefined;
    if (from.epoch !== at.epoch) {
      return tail?.refutedEpochs.has(from.epoch) ? { kind: "broken", reason: "epoch_changed" } : undefined;
    }
    if (from.offset === at.offset) return { kind: "bridged", publications: [], position: at };
    if (!tail || from.offset > at.offset || now >= tail.keptUntil) return undefined;
    if (from.offset >= tail.start) {
      return bridge(from, { position: at, publications: publicationsAfter(tail, from.offset), more: false });
    }
    if (tail.before === "unknown") return undefined;
    return { kind: "broken", reason: tail.before === "too much" ? "too_far_behind" : "history_trimmed" };
  }

  /** How history has to be read for clients of which the last stands at `offset`: once from there, then for all. */
  reading(channel: string, offset: number): Reading {
    return this.#tails.get(channel)?.probed ? { kind: "newest" } : { kind: "after", offset };
  }

  /**
   * Takes in what was read from history, as far as it joins.
   * @param at where the hub stands now; what is read beyond it is going to be appended.
   */
  extend(
    channel: string,
    at: Position,
    slice: HistorySlice,
    reading: Reading,
    options: { retention: Retention; now: number },
  ): void {
    if (slice.position.epoch !== at.epoch) return;
    const { retention, now } = options;
    let tail = this.#tails.get(channel);
    if (!tail || tail.epoch !== at.epoch || tail.end !== at.offset || now >= tail.keptUntil) {
      tail = this.#begin(channel, at, tail);
    }
    tail.probed = true;
    const { start } = tail;
    const older = slice.publications.filter(({ offset }) => offset <= start);
    if (older.length > 0) {
      if (older.at(-1)?.offset !== start) return;
      const held = older.map((publication) => ({ publication, bytes: Buffer.byteLength(publication.data) }));
      tail.held = [...held, ...tail.held];
      for (const { bytes } of held) this.#count(tail, bytes, 1);
      tail.start = held[0]?.publication.prev ?? start;
    }
    const oldest = slice.publications[0]?.prev ?? slice.position.offset;
    // Nothing is kept before the oldest of a complete read: it began before the tail does, and found less.
    if (oldest >= tail.start && !(reading.kind === "after" && (slice.more || oldest <= reading.offset))) {
      tail.before = slice.more ? "too much" : "nothing kept";
    }
    if (slice.keptForMs !== undefined && slice.position.offset >= tail.end)
      tail.keptUntil = Math.min(tail.keptUntil, now + slice.keptForMs);
    this.#bound(tail, retention);
    this.#evict();
  }

  /** The broker was asked: this epoch is not the one that the hub stands in. */
  refute(channel: string, epoch: string, at: Position): void {
    const known = this.#tails.get(channel);
    const { refutedEpochs: refuted } = known?.epoch === at.epoch ? known : this.#begin(channel, at, known);
    refuted.add(epoch);
    for (const oldest of refuted) {
      if (refuted.size <= maxRefutedEpochs) break;
      refuted.delete(oldest);
    }
  }

  #begin(channel: string, at: Position, before: Tail | undefined): Tail {
    if (before) this.#clear(before);
    const tail: Tail = {
      epoch: at.epoch,
      start: at.offset,
      held: [],
      end: at.offset,
      bytes: 0,
      before: "unknown",
      probed: false,
      keptUntil: Number.POSITIVE_INFINITY,
      refutedEpochs: before?.epoch === at.epoch ? before.refutedEpochs : new Set(),
    };
    this.#tails.set(channel, tail);
    if (before && before.epoch !== at.epoch) this.refute(channel, before.epoch, at);
    return tail;
  }

  /** Never more than history keeps, nor than may be replayed. */
  #bound(tail: Tail, { historySize }: Retention): void {
    let dropped = 0;
    for (const { publication, bytes } of tail.held) {
      const count = tail.held.length - dropped;
      const pastHistory = count > historySize;
      if (!pastHistory && count <= maxReplayPublications && tail.bytes <= maxReplayBytes) break;
      tail.before = pastHistory ? "nothing kept" : "too much";
      tail.start = publication.offset;
      this.#count(tail, bytes, -1);
      dropped++;
    }
    tail.held.splice(0, dropped);
  }

  #count(tail: Tail, bytes: number, sign: 1 | -1): void {
    tail.bytes += sign * bytes;
    this.#bytes += sign * (bytes + overheadBytes);
  }

  #clear(tail: Tail): void {
    this.#bytes -= tail.bytes + tail.held.length * overheadBytes;
    tail.held = [];
    tail.bytes = 0;
  }

  #evict(): void {
    for (const [channel, tail] of this.#tails) {
      if (this.#bytes <= this.#maxBytes) return;
      if (tail.held.length > 0) this.drop(channel);
    }
  }
}

function publicationsAfter(tail: Tail, offset: number): Publication[] {
  let low = 0;
  let high = tail.held.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tail.held[middle]?.publication.offset ?? 0) <= offset) low = middle + 1;
    else high = middle;
  }
  return tail.held.slice(low).map(({ publication }) => publication);
}
