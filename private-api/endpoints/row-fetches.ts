/** Fetches rows from tables for endpoints that are behind, so that the loop that reads the log for all endpoints never waits for a database. */
import type { Place, ReadBounds, SlotRead } from "../../shared/changes/contract.ts";
import { type TableRows, withTableRows } from "../changes/table-rows.ts";
import type { HeldSlot } from "./held-slots.ts";

/** Endpoints for which rows are fetched or kept at once: each may take 1 MiB. */
const maxFetches = 16;
/** After a failure the table is asked again. */
const retryMs = 1_000;
/** Rows that are not taken within this time may be dropped: their endpoint is no longer behind in this process. */
const keptMs = 10_000;

type Bounds = Pick<ReadBounds, "limit" | "maxBytes">;

/** What was read of one slot. */
export interface BegunRead {
  readonly read: SlotRead;
  /** The place of the endpoint before, and the name of its cursor. */
  readonly before: Place;
  readonly name: string;
  /** The lease under which it was read. */
  readonly held: HeldSlot;
}

interface Fetch {
  readonly begun: readonly BegunRead[];
  /** The same with their rows, once they are here. */
  fetched?: readonly BegunRead[];
  /** By `performance.now()`. */
  endsAt?: number;
}

export class RowFetches {
  readonly #tables: TableRows;
  readonly #onFetched: (id: string) => void;
  readonly #byEndpoint = new Map<string, Fetch>();

  /** @param options.onFetched called when a fetch for the endpoint has ended, whether or not it succeeded */
  constructor(options: { tables: TableRows; onFetched: (id: string) => void }) {
    this.#tables = options.tables;
    this.#onFetched = options.onFetched;
  }

  /** @returns false while the endpoint, or too many others, wait for rows: the caller reads again */
  begin(id: string, begun: readonly BegunRead[], bounds: Bounds): boolean {
    if (this.#byEndpoint.has(id)) return false;
    if (this.#byEndpoint.size >= maxFetches) this.#dropEnded();
    if (this.#byEndpoint.size >= maxFetches) return false;
    const fetch: Fetch = { begun };
    this.#byEndpoint.set(id, fetch);
    void this.#run(id, fetch, bounds);
    return true;
  }

  /** What has been fetched, once. */
  take(id: string): readonly BegunRead[] {
    const fetch = this.#byEndpoint.get(id);
    if (fetch?.fetched || hasEnded(fetch)) this.#byEndpoint.delete(id);
    return fetch?.fetched ?? [];
  }

  /** Whether the slot waits for rows of this endpoint. */
  waitsFor(id: string, slot: number): boolean {
    return this.#byEndpoint.get(id)?.begun.some(({ read }) => read.slot === slot) ?? false;
  }

  forget(id: string): void {
    this.#byEndpoint.delete(id);
  }

  #dropEnded(): void {
    for (const [id, fetch] of this.#byEndpoint) if (hasEnded(fetch)) this.#byEndpoint.delete(id);
  }

  async #run(id: string, fetch: Fetch, bounds: Bounds): Promise<void> {
    try {
      const reads = await withTableRows(
        fetch.begun.map(({ read }) => read),
        this.#tables,
        bounds,
      );
      // Slots that are left out are read again.
      fetch.fetched = fetch.begun.flatMap((begun) => {
        const read = reads.find(({ slot }) => slot === begun.read.slot);
        return read ? [{ ...begun, read }] : [];
      });
      fetch.endsAt = performance.now() + keptMs;
    } catch {
      // The tables have logged why.
      fetch.endsAt = performance.now() + retryMs;
    }
    this.#onFetched(id);
  }
}

function hasEnded(fetch: Fetch | undefined): boolean {
  return (fetch?.endsAt ?? Infinity) <= performance.now();
}
