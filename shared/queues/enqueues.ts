import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import { dedupeMs, type Enqueued, type NewItem } from "./contract.ts";
import { paddedNumber, queueText } from "./keys.ts";
import { type Argument, SlotBatches } from "./slot-batches.ts";
import { placesOf } from "./tenant-places.ts";

const enqueueScript = script<string[]>(new URL("enqueue.lua", import.meta.url), 2, { isBatch: true });

/** A look for the queue of an item in one of its places. */
interface Visit {
  /** Which place, under the map that says `since`. Under another map the first place is visited. */
  readonly since: number;
  readonly index: number;
  /** The greatest number that the places before have given. */
  readonly past: number;
}
const firstVisit: Visit = { since: -1, index: 0, past: 0 };

/**
 * Stores items. One script call stores those of one turn of the event loop. While queues of a tenant are in several places the item
 * visits one after the other.
 */
export class Enqueues {
  readonly #cells: Cells;
  readonly #batches: SlotBatches<string>;
  /** Queues with items that visit several places → the last of them. Items of one queue follow each other. */
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(cells: Cells) {
    this.#cells = cells;
    this.#batches = new SlotBatches({
      script: enqueueScript,
      arguments: (groups) => [
        dedupeMs,
        cells.map.version,
        groups.reduce((sum, { entries }) => sum + entries.length, 0),
        ...groups.flatMap(({ prefix, entries }) => [prefix, entries.length, ...entries.flat()]),
      ],
      cells,
      inOrder: true,
    });
  }

  /** @see QueueStore.enqueue */
  async add(item: NewItem): Promise<Enqueued> {
    const text = queueText(item.queue);
    if (!this.#last.has(text) && placesOf(this.#cells.map, item.queue).slots.length === 1) {
      const { reply, next } = await this.#visit(item, text, firstVisit);
      if (!next) return toEnqueued(reply);
      // The tenant was pinned meanwhile. Items that follow visit the same place first, behind this one.
      return this.#store(item, text, next);
    }
    const before = this.#last.get(text);
    const stored = (async () => {
      // Where it fails, this one does.
      await before;
      return this.#store(item, text, firstVisit);
    })();
    this.#last.set(text, stored);
    try {
      return await stored;
    } finally {
      if (this.#last.get(text) === stored) this.#last.delete(text);
    }
  }

  async #store(item: NewItem, text: string, from: Visit): Promise<Enqueued> {
    // Each newer map begins the visits again: there are few while one item is stored.
    let visit = from;
    for (let tries = 0; tries < maxVisits; tries++) {
      const { reply, next } = await this.#visit(item, text, visit);
      if (!next) return toEnqueued(reply);
      visit = next;
    }
    throw brokerUnavailable("the places of the tenant's queues change too often");
  }

  /** @returns `next`: the queue is not there. */
  async #visit({ queue, ...item }: NewItem, text: string, visit: Visit): Promise<{ reply: string; next?: Visit }> {
    const { dedupeId = "", source, head, data } = item;
    const origin = source === undefined ? item.class : `${item.class} ${source}`;
    const body = `${origin}\n${head}\n${data}`;
    const indexUnder = (since: number): number => (since === visit.since ? visit.index : 0);
    const asked = placesOf(this.#cells.map, queue);
    const slot = asked.slots[indexUnder(asked.since)] ?? 0;
    let sent: { since: number; index: number } | undefined;
    // Called when the item is sent, also where that is repeated: under the map that the cell compares with its fence.
    const values = (): readonly Argument[] | undefined => {
      const { slots, since } = placesOf(this.#cells.map, queue);
      const index = indexUnder(since);
      sent = slots[index] === slot ? { since, index } : undefined;
      if (!sent) return undefined;
      const newest = slots.length === 1 ? "" : `newest ${visit.past}`;
      return [text, origin, dedupeId, body, index < slots.length - 1 ? `earlier ${since}` : newest];
    };
    const reply = await this.#batches.add(slot, values, text.length + body.length);
    if (reply === undefined || !sent) {
      // What this process stores later may have gone ahead.
      if (!this.#last.has(text)) throw brokerUnavailable("the tenant's queues have moved meanwhile: try again");
      return { reply: "", next: firstVisit };
    }
    if (!reply.startsWith("-")) return { reply };
    return {
      reply,
      next: { since: sent.since, index: sent.index + 1, past: Math.max(visit.past, Number(reply.slice(1))) },
    };
  }
}

/** More than places that a tenant can have, twice. */
const maxVisits = 200;

function toEnqueued(sequence: string): Enqueued {
  return sequence === "" ? { kind: "duplicate" } : { kind: "stored", sequence: paddedNumber(sequence) };
}
