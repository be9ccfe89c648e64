import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { slotOf } from "../redis/slots.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import {
  type Claimed,
  dedupeMs,
  type Enqueued,
  type History,
  LostWrites,
  type NewItem,
  type QueueName,
} from "./contract.ts";
import { type ItemContent, keyText, leaseOfStored, paddedNumber, tenantText } from "./keys.ts";
import { SlotBatches } from "./slot-batches.ts";
import { placesOf, type QueuePlaces } from "./tenant-places.ts";

const enqueueScript = script<string>(new URL("enqueue.lua", import.meta.url), 2, { isBatch: true });

/** An item as the script takes it. */
interface Storing {
  readonly queue: QueueName;
  /** Of the queue. */
  readonly text: string;
  readonly hashSlot: number;
  readonly kind: string;
  readonly key: string;
  readonly dedupeId: string | undefined;
  readonly dedupesEverywhere: boolean;
  /** Histories of which its Redis must have one; "": it may have any. */
  readonly after: string;
  readonly content: Content;
  readonly class: string;
  readonly source: string | undefined;
  /** Of the lease that the caller takes where nothing else is in the queue, in ms; "": none. */
  readonly lease: string;
}

/** The same object for items in a row that have the same content. */
interface Content extends ItemContent {
  readonly text: string;
}

/** One of the places that an item's queue may be in: see {@link QueuePlaces}. */
interface Place {
  /** {@link QueuePlaces.since} of the map by which this place was found. Under another map the visits begin again with the first place. */
  readonly since: number;
  /** Number of places after it. Counted from the end, because places at the front may be forgotten meanwhile. */
  readonly later: number;
  /** The greatest sequence that the earlier places have given. */
  readonly past: number;
}
const firstPlace: Place = { since: -1, later: 0, past: 0 };

/** Looks for the queue of an item in one of its places. Either the item is stored there, or it visits the next place. */
class Visit {
  readonly slot: number;
  readonly #cells: Cells;
  readonly #item: Storing;
  readonly #place: Place;
  /** Slot and text of its id, or "". */
  readonly #known: string;
  /** Undefined: the item was not sent, or the slot is no longer one of its places. */
  #sent: { readonly since: number; readonly later: number } | undefined;

  constructor(cells: Cells, item: Storing, place: Place) {
    this.#cells = cells;
    this.#item = item;
    this.#place = place;
    const places = this.#places();
    this.slot = places.slots[this.#indexUnder(places)] ?? 0;
    const { dedupeId, dedupesEverywhere } = item;
    this.#known = dedupeId === undefined ? "" : `${this.#slotOfId(dedupeId, dedupesEverywhere)} ${dedupeId}`;
  }

  /** Called whenever the item is sent, including repeats, so that it uses the map whose version the cell compares with its fence. */
  text(contentAt: number): string | undefined {
    const { kind, key, after, lease } = this.#item;
    const places = this.#places();
    const { slots, since } = places;
    const index = this.#indexUnder(places);
    this.#sent = slots[index] === this.slot ? { since, later: slots.length - 1 - index } : undefined;
    if (!this.#sent) return undefined;
    const known = this.#known;
    const item = `${contentAt} ${kind}\n${key}`;
    if (slots.length === 1 && known === "" && after === "" && lease === "") return item;
    const newest = slots.length === 1 ? "" : `newest ${this.#place.past}`;
    const place = index < slots.length - 1 ? `earlier ${since}` : newest;
    return `${item}\n${place}\n${known}\n${after}\n${lease}`;
  }

  /** @param reply undefined: it was not sent. @returns undefined: it is stored here; {@link firstPlace}: its places have changed. @throws LostWrites */
  next(reply: string | undefined): Place | undefined {
    if (reply === undefined || !this.#sent) return firstPlace;
    if (reply === "!") throw new LostWrites();
    if (!reply.startsWith("-")) return undefined;
    const { since, later } = this.#sent;
    return { since, later: later - 1, past: Math.max(this.#place.past, Number(reply.slice(1))) };
  }

  #places(): QueuePlaces {
    return placesOf(this.#cells.map, this.#item.queue, this.#item.hashSlot);
  }

  #indexUnder({ slots, since }: QueuePlaces): number {
    return since === this.#place.since ? Math.max(0, slots.length - 1 - this.#place.later) : 0;
  }

  /**
   * In the slot of the queue. An id that counts in all queues is kept in its own slot if one script reaches all slots; if none does,
   * {@link ClaimedIds} checks the slot of the id first.
   */
  #slotOfId(dedupeId: string, everywhere: boolean): number {
    return everywhere && this.#cells.spansAllSlots ? slotOf(dedupeId) : this.slot;
  }
}

/**
 * Stores items. One script call stores the items of one turn of the event loop. While the queues of a tenant may be in several places,
 * an item visits one place after the other.
 */
export class Enqueues {
  readonly #cells: Cells;
  readonly #leaseMs: number;
  readonly #batches: SlotBatches;
  /** Queue → its last item that visits several places. Items of one queue do so one after the other. */
  readonly #last = new Map<string, Promise<unknown>>();
  #lastContent: Content = { head: "", data: "", text: "\n" };

  constructor(cells: Cells, leaseMs: number) {
    this.#cells = cells;
    this.#leaseMs = leaseMs;
    this.#batches = new SlotBatches({
      script: enqueueScript,
      head: (entries) => [dedupeMs, cells.map.version, entries],
      separator: " ",
      cells,
      inOrder: true,
    });
  }

  /** @see QueueStore.enqueue */
  add(given: NewItem, after: readonly History[] = []): Promise<Enqueued> {
    const item = storingOf(given, { content: this.#contentOf(given), after, leaseMs: this.#leaseMs });
    const { queue, text, hashSlot } = item;
    if (this.#last.has(text) || placesOf(this.#cells.map, queue, hashSlot).slots.length !== 1) {
      return this.#addBehind(item);
    }
    const visit = new Visit(this.#cells, item, firstPlace);
    return this.#send(visit, item).then((reply) => {
      const next = this.#next(visit, reply, item);
      // The tenant was pinned meanwhile. Items that follow visit the same place first, behind this one.
      return next ? this.#store(item, next) : toEnqueued(item, visit.slot, reply);
    });
  }

  /** A change has the same content for each of its endpoints. */
  #contentOf({ head, data }: NewItem): Content {
    const last = this.#lastContent;
    if (last.head !== head || last.data !== data) this.#lastContent = { head, data, text: `${head}\n${data}` };
    return this.#lastContent;
  }

  /** Stores the item after the last one of its queue that visits several places. */
  async #addBehind(item: Storing): Promise<Enqueued> {
    const { text } = item;
    const before = this.#last.get(text);
    const stored = (async () => {
      // Where it fails, this one does.
      await before;
      return this.#store(item, firstPlace);
    })();
    this.#last.set(text, stored);
    try {
      return await stored;
    } finally {
      if (this.#last.get(text) === stored) this.#last.delete(text);
    }
  }

  async #store(item: Storing, from: Place): Promise<Enqueued> {
    // Each newer map begins the visits again. Few maps are published while one item is stored.
    let place = from;
    for (let tries = 0; tries < maxVisits; tries++) {
      const visit = new Visit(this.#cells, item, place);
      const reply = await this.#send(visit, item);
      const next = this.#next(visit, reply, item);
      if (!next) return toEnqueued(item, visit.slot, reply);
      place = next;
    }
    throw brokerUnavailable("the places of the tenant's queues change too often");
  }

  #send(visit: Visit, { text, content }: Storing): Promise<string | undefined> {
    return this.#batches.add(
      visit.slot,
      (contentAt) => visit.text(contentAt),
      text.length + content.text.length,
      content,
    );
  }

  #next(visit: Visit, reply: string | undefined, { text }: Storing): Place | undefined {
    const next = visit.next(reply);
    // Later items of the queue may have been stored ahead of this one.
    if (next !== firstPlace || this.#last.has(text)) return next;
    throw brokerUnavailable("the tenant's queues have moved meanwhile: try again");
  }
}

function storingOf(
  given: NewItem,
  { content, after, leaseMs }: { content: Content; after: readonly History[]; leaseMs: number },
): Storing {
  const { queue, class: name, source, dedupeId, dedupesEverywhere = false, takesLease = false } = given;
  const names = `${queue.service}:${tenantText(queue.tenant)}`;
  const key = keyText(queue.key);
  const text = `${names}:${key}`;
  const ofSource = source === undefined ? "" : ` ${source}`;
  const kind = `${name}:${names}${ofSource}`;
  return {
    queue,
    text,
    hashSlot: slotOf(text),
    kind,
    key,
    dedupeId,
    dedupesEverywhere,
    after: after.join(" "),
    content,
    class: name,
    source,
    lease: takesLease ? String(leaseMs) : "",
  };
}

/** More than twice the number of places that a tenant can have. */
const maxVisits = 200;

function toEnqueued(item: Storing, slot: number, reply = ""): Enqueued {
  if (reply === "") return { kind: "duplicate" };
  const fenceAt = reply.indexOf(":") + 1;
  if (fenceAt === 0) return { kind: "stored", sequence: paddedNumber(reply) };
  const timeAt = reply.indexOf(":", fenceAt) + 1;
  const sequence = reply.slice(0, fenceAt - 1);
  const fence = reply.slice(fenceAt, timeAt - 1);
  const { first, ...leased } = leaseOfStored({ ...item, slot }, { sequence, fence });
  const claimed: Claimed = { ...leased, claimedAt: Number(reply.slice(timeAt)), items: [first] };
  return { kind: "stored", sequence: first.sequence, claimed };
}
