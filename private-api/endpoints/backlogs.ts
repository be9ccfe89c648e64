import { endpointService } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";

/** Items of one endpoint that wait in queues; what is beyond stays in the log. */
const windowItems = 1_000;
/** Below it, an endpoint that fell behind is read for again. */
const refillItems = windowItems / 2;
/** The store is asked again after this time: until then it counts as what it was, and what was added since. */
const recheckMs = 100;

interface Backlog {
  /** At most so many wait: what was delivered since the store was asked is unknown. */
  items: number;
  askedAt: number;
}

/** How many items wait for each endpoint. */
export class Backlogs {
  readonly #queues: Pick<QueueStore, "waitingOfSource">;
  /** Endpoints that were never asked for are absent. */
  readonly #known = new Map<string, Backlog>();

  constructor(queues: Pick<QueueStore, "waitingOfSource">) {
    this.#queues = queues;
  }

  /** Asks the store where so many more could fill the window. */
  async expect(counts: ReadonlyMap<string, number>): Promise<void> {
    const now = performance.now();
    const due = [...counts].filter(([id, count]) => {
      const known = this.#known.get(id);
      return !known || (known.items + count > refillItems && now - known.askedAt >= recheckMs);
    });
    await Promise.all(due.map(async ([id]) => this.#ask(id)));
  }

  /** One more item is queued, where the window has room. */
  take(id: string): boolean {
    const known = this.#known.get(id);
    if (!known || known.items >= windowItems) return false;
    known.items++;
    return true;
  }

  /** Items to read for an endpoint that fell behind: 0 while the window is rather full. */
  async room(id: string): Promise<number> {
    const known = this.#known.get(id);
    if (!known || performance.now() - known.askedAt >= recheckMs) await this.#ask(id);
    const items = this.#known.get(id)?.items ?? windowItems;
    return items >= refillItems ? 0 : windowItems - items;
  }

  forget(id: string): void {
    this.#known.delete(id);
  }

  async #ask(id: string): Promise<void> {
    const items = await this.#queues.waitingOfSource(endpointService(id));
    this.#known.set(id, { items, askedAt: performance.now() });
  }
}
