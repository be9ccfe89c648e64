import { endpointService } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";

/** Most of one endpoint's changes that wait in queues; the last item may exceed the bytes. The rest stays in the log. */
const windowOf = { items: 1_000, bytes: 4 * 1024 * 1024 };
/** Catch-up fills the window up to this part. The rest is for changes in slots where the endpoint is not behind. */
const behindPart = 0.9;
/** Catch-up reads for an endpoint again below this part. */
const refillPart = 0.8;
/** Above this part the store is asked again after {@link recheckMs}. In between, a backlog counts as the last answer plus what was added since. */
const recheckPart = 0.5;
const recheckMs = 100;
/** Endpoints that the store is asked about at once: for each it counts over all slots. */
const askedAtOnce = 50;
/** Of an item that this process has not queued itself. */
const assumedBytes = 1_024;

interface Backlog {
  /** As the store counted, plus what this process has added since. What was delivered since, or queued by other processes, is not known. */
  items: number;
  /** Exact for items that this process adds. When the store is asked again, all items that wait count with their mean size. */
  bytes: number;
  askedAt: number;
}

/** How much may be queued for an endpoint that is behind. */
export interface Room {
  readonly items: number;
  readonly bytes: number;
}

/** How much waits for each endpoint. */
export class Backlogs {
  readonly #queues: Pick<QueueStore, "waitingOfSource">;
  /** Endpoints that were never asked for are absent. */
  readonly #known = new Map<string, Backlog>();

  constructor(queues: Pick<QueueStore, "waitingOfSource">) {
    this.#queues = queues;
  }

  /** Call it before {@link take}: asks the store about endpoints whose window could be filled by so many more items. */
  async expect(counts: ReadonlyMap<string, number>): Promise<void> {
    const now = performance.now();
    const due = [...counts].filter(([id, count]) => {
      const known = this.#known.get(id);
      if (!known) return true;
      const isFilling =
        known.items + count > recheckPart * windowOf.items || known.bytes > recheckPart * windowOf.bytes;
      return isFilling && now - known.askedAt >= recheckMs;
    });
    for (let at = 0; at < due.length; at += askedAtOnce) {
      await Promise.all(due.slice(at, at + askedAtOnce).map(async ([id]) => this.#ask(id)));
    }
  }

  /** Counts one more item. @returns false if the window has no room, or the store was never asked */
  take(id: string, bytes: number): boolean {
    const known = this.#known.get(id);
    if (!known || known.items >= windowOf.items || known.bytes >= windowOf.bytes) return false;
    known.items++;
    known.bytes += bytes;
    return true;
  }

  /** Undefined from {@link refillPart} of the window on. */
  async room(id: string): Promise<Room | undefined> {
    let known = this.#known.get(id);
    if (!known || performance.now() - known.askedAt >= recheckMs) known = await this.#ask(id);
    if (known.items >= refillPart * windowOf.items || known.bytes >= refillPart * windowOf.bytes) return undefined;
    return { items: behindPart * windowOf.items - known.items, bytes: behindPart * windowOf.bytes - known.bytes };
  }

  forget(id: string): void {
    this.#known.delete(id);
  }

  async #ask(id: string): Promise<Backlog> {
    const items = await this.#queues.waitingOfSource(endpointService(id));
    const before = this.#known.get(id);
    const meanBytes = before && before.items > 0 ? before.bytes / before.items : assumedBytes;
    const known = { items, bytes: items * meanBytes, askedAt: performance.now() };
    this.#known.set(id, known);
    return known;
  }
}
