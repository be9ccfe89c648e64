/** A channel's history in the simplest possible form, with a clock of its own: what tails and catching up are compared with. */
import type { HistoryQuery, HistorySlice, Position, Publication, Retention } from "../../shared/channels/contract.ts";

export class ModelHistory {
  readonly retention: Retention;
  epoch = "e";
  now = 1_000_000;
  reads = 0;
  #kept: Publication[] = [];
  #keptUntil = 0;
  #offset = 0;

  constructor(retention: Retention) {
    this.retention = retention;
  }

  get position(): Position {
    return { epoch: this.epoch, offset: this.#offset };
  }

  /** @param step more than 1: a jump. */
  publish(step = 1, bytes = 1): Publication {
    const offset = this.#offset + step;
    const publication = { offset, prev: this.#offset, event: "e", data: "1".repeat(bytes) };
    this.#expire();
    this.#kept = [...this.#kept, publication].slice(-this.retention.historySize);
    if (this.retention.historySize === 0) this.#kept = [];
    this.#keptUntil = this.now + this.retention.historySeconds * 1000;
    this.#offset = offset;
    return publication;
  }

  read(query: Pick<HistoryQuery, "after" | "newest" | "limit" | "maxBytes">): HistorySlice {
    this.reads++;
    this.#expire();
    const { position } = this;
    if (query.limit === 0) return { position, publications: [], more: false };
    const wanted = this.#kept.filter(({ offset }) => offset > (query.after ?? -1));
    const publications: Publication[] = [];
    let bytes = 0;
    for (const publication of query.newest ? wanted.toReversed() : wanted) {
      bytes += publication.data.length;
      if (publications.length === query.limit || bytes > query.maxBytes) break;
      publications.push(publication);
    }
    if (query.newest) publications.reverse();
    const more = publications.length < wanted.length;
    return {
      position,
      publications,
      more,
      ...(publications.length > 0 && { keptForMs: this.#keptUntil - this.now }),
    };
  }

  #expire(): void {
    if (this.now >= this.#keptUntil) this.#kept = [];
  }
}
