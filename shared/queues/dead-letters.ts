/** Dead letters in Redis: each slot keeps its own. */
import type { Cells } from "../redis/cells.ts";
import { slotCount } from "../redis/slots.ts";
import { type DeadLetterPage, dedupeMs, maxDeadLetterBytes, type NewItem } from "./contract.ts";
import {
  comparePlaces,
  deadLetterId,
  type DeadLetterPlace,
  oldestPlaces,
  pageLength,
  parseDeadLetterId,
} from "./dead-letter-places.ts";
import { idKey, parseDeadLetter, slotPrefix } from "./keys.ts";
import { queueScript, runAt } from "./slot-scripts.ts";

/** Each may have as many bytes as a webhook. */
const readAtOnce = 16;
/** Letters of one slot that can fail within one ms: each takes a script call. */
const maxPerMs = 1_000;

const retryScript = queueScript<0 | 1 | "left">("retry-dead.lua");
const removeScript = queueScript<0 | 1>("remove-dead.lua");

export class DeadLetters {
  readonly #cells: Cells;
  readonly #enqueue: (item: NewItem) => Promise<unknown>;

  /** @param enqueue for a letter whose tenant has new places for its items */
  constructor(cells: Cells, enqueue: (item: NewItem) => Promise<unknown>) {
    this.#cells = cells;
    this.#enqueue = enqueue;
  }

  /** @see QueueOperations.deadLetters */
  async page({ limit, after }: { limit: number; after?: string }): Promise<DeadLetterPage> {
    const last = after === undefined ? undefined : parseDeadLetterId(after);
    const found = await oldestPlaces(this.#cells.queueSlots, limit + 1, async (slot, count) =>
      this.#placesIn(slot, { count, after: last }),
    );
    const texts: (string | null)[] = [];
    let bytes = 0;
    while (texts.length < found.length && bytes <= maxDeadLetterBytes) {
      const more = await this.#textsOf(found.slice(texts.length, texts.length + readAtOnce));
      texts.push(...more);
      for (const text of more) bytes += text?.length ?? 0;
    }
    const sizes = texts.map((text) => text?.length ?? 0);
    const places = found.slice(0, pageLength(sizes, limit));
    const end = places.length < found.length ? places.at(-1) : undefined;
    return {
      letters: places.flatMap(({ slot }, at) => {
        const text = texts[at];
        return typeof text === "string" ? parseDeadLetter(slot, text) : [];
      }),
      next: end && deadLetterId(end),
    };
  }

  /** In their order; null where one is gone. */
  async #textsOf(places: readonly DeadLetterPlace[]): Promise<readonly (string | null)[]> {
    const texts = new Map<DeadLetterPlace, string | null>();
    const asked = [...Map.groupBy(places, ({ slot }) => slot)].map(async ([slot, own]) => {
      const cell = this.#cells.ofSlot(slot);
      const sequences = own.map(({ sequence }) => sequence);
      const found = await cell.run<(string | null)[]>("hmget", `${slotPrefix(cell.root, slot)}dead`, ...sequences);
      for (const [at, place] of own.entries()) texts.set(place, found[at] ?? null);
    });
    await Promise.all(asked);
    return places.map((place) => texts.get(place) ?? null);
  }

  /** @see QueueOperations.retryDeadLetter */
  async retry(id: string): Promise<boolean> {
    const place = parseDeadLetterId(id);
    if (!place) return false;
    const { pins } = this.#cells.map;
    if (pins.size === 0 && place.slot < slotCount) {
      const known = idKey(this.#cells.fleet.root, place.slot, retryId(deadLetterId(place)));
      const outcome = await runAt(this.#cells, retryScript, place.slot, place.sequence, known, dedupeMs);
      if (outcome !== "left") return outcome === 1;
    }
    const cell = this.#cells.ofSlot(place.slot);
    const dead = `${slotPrefix(cell.root, place.slot)}dead`;
    return this.#retryElsewhere(place, await cell.run<string | null>("hget", dead, place.sequence));
  }

  /** Moves the letter to where new items of its tenant go, maybe in another Redis. After a crash halfway, another retry completes it. */
  async #retryElsewhere(place: DeadLetterPlace, text: string | null): Promise<boolean> {
    if (text === null) return false;
    const { id, queue, item } = parseDeadLetter(place.slot, text);
    const { class: name, head, data, source } = item;
    await this.#enqueue({
      queue,
      class: name,
      head,
      data,
      ...(source !== undefined && { source }),
      dedupeId: retryId(id),
    });
    return this.remove(id);
  }

  async remove(id: string): Promise<boolean> {
    const place = parseDeadLetterId(id);
    return place !== undefined && (await runAt(this.#cells, removeScript, place.slot, place.sequence)) === 1;
  }

  /** The oldest of a slot that stand after a place. */
  async #placesIn(
    slot: number,
    { count, after }: { count: number; after: DeadLetterPlace | undefined },
  ): Promise<readonly DeadLetterPlace[]> {
    const cell = this.#cells.ofSlot(slot);
    const from = after ? `${slot < after.slot ? "(" : ""}${after.failedAt}` : "-inf";
    const most = slot === after?.slot ? count + maxPerMs : count;
    const range = [`${slotPrefix(cell.root, slot)}deadAt`, from, "+inf", "BYSCORE", "LIMIT", 0, most, "WITHSCORES"];
    const reply = await cell.run<string[]>("zrange", ...range);
    const places: DeadLetterPlace[] = [];
    for (let at = 0; at + 1 < reply.length; at += 2) {
      const place = { failedAt: Number(reply[at + 1]), slot, sequence: reply[at] ?? "" };
      if (!after || comparePlaces(place, after) > 0) places.push(place);
    }
    return places.slice(0, count);
  }
}

/** The id of the item that a dead letter becomes. */
function retryId(id: string): string {
  return `dead ${id}`;
}
