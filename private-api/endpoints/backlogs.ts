import { endpointService } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";

/** What waits of one endpoint in queues, at most, but for the item that exceeds the bytes; what is beyond stays in the log. */
const windowOf = { items: 1_000, bytes: 4 * 1024 * 1024 };
/** What is read for an endpoint that fell behind in some slots fills this part of it: the rest is for what comes in its other slots. */
const behindPart = 0.9;
/** It is read for again below this part. */
const refillPart = 0.8;
/** From this part on the store is asked again after {@link recheckMs}: until then it counts as what it was, and what was added since. */
const recheckPart = 0.5;
const recheckMs = 100;
/** So many endpoints at once: the store counts over all slots for each. */
const askedAtOnce = 50;
/** Of an item that this process has not queued itself. */
const assumedBytes = 1_024;

interface Backlog {
  /** At most so many wait: what was delivered since the store was asked is unknown. */
  items: number;
  /** Exact while nothing is delivered; then each item that left counts as the mean of those that waited. */
  bytes: number;
  askedAt: number;
}

/** What an endpoint that fell behind may be given. */
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

  /** Asks the store where so many more could fill the window. */
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

  /** One more item is queued, where the window has room. */
  take(id: string, bytes: number): boolean {
    const known = this.#known.get(id);
    if (!known || known.items >= windowOf.items || known.bytes >= windowOf.bytes) return false;
    known.items++;
    known.bytes += bytes;
    return true;
  }

  /** Undefined while the window is rather full. */
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
