/** Groups what is asked of Redis within one turn of the event loop: one script call for each Redis, in a cluster one for each slot. */
import type { Cells } from "../redis/cells.ts";
import type { RedisConnections } from "../redis/connections.ts";
import type { Script } from "../redis/scripts.ts";
import { scriptKeys, slotPrefix } from "./keys.ts";

type Argument = string | number;

interface Entry<Reply> {
  slot: number;
  values: readonly Argument[];
  bytes: number;
  resolve: (reply: Reply) => void;
  reject: (error: unknown) => void;
}

/** Of one script call: about a millisecond of Redis. */
const maxEntries = 128;
const maxBytes = 1024 * 1024;

/** The arguments of a script for groups of entries, each group of one slot. */
export type Arguments = (
  groups: readonly { prefix: string; entries: readonly (readonly Argument[])[] }[],
) => Argument[];

export class SlotBatches<Reply> {
  readonly #script: Script<Reply[]>;
  readonly #arguments: Arguments;
  readonly #cells: Cells;
  readonly #waiting = new Map<RedisConnections, Entry<Reply>[]>();
  #scheduled = false;

  /** @param options.script replies with an array: a reply for each entry, in order. */
  constructor(options: { script: Script<Reply[]>; arguments: Arguments; cells: Cells }) {
    this.#script = options.script;
    this.#arguments = options.arguments;
    this.#cells = options.cells;
  }

  /** Entries of one slot are executed in the order of the calls. */
  async add(slot: number, values: readonly Argument[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const cell = this.#cells.ofSlot(slot);
      const bytes = values.reduce<number>((sum, value) => sum + String(value).length, 0);
      const entry = { slot, values, bytes, resolve, reject };
      const waiting = this.#waiting.get(cell);
      if (waiting) waiting.push(entry);
      else this.#waiting.set(cell, [entry]);
      if (this.#scheduled) return;
      this.#scheduled = true;
      setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    this.#scheduled = false;
    const cells = [...this.#waiting];
    this.#waiting.clear();
    for (const [cell, entries] of cells) {
      for (const batch of cell.spansSlots ? chunks(entries) : bySlot(entries).flatMap(chunks))
        void this.#run(cell, batch);
    }
  }

  async #run(cell: RedisConnections, batch: readonly Entry<Reply>[]): Promise<void> {
    const groups = bySlot(batch);
    const ordered = groups.flat();
    try {
      const prefixOf = (slot: number): string => slotPrefix(cell.root, slot);
      const [first] = ordered;
      const values = this.#arguments(
        groups.map((entries) => ({
          prefix: prefixOf(entries[0]?.slot ?? 0),
          entries: entries.map(({ values }) => values),
        })),
      );
      const replies = await cell.run(this.#script, ...scriptKeys(cell, first?.slot ?? 0), ...values);
      for (const [index, entry] of ordered.entries()) entry.resolve(replies[index] as Reply);
    } catch (error) {
      for (const entry of ordered) entry.reject(error);
    }
  }
}

function bySlot<Reply>(entries: readonly Entry<Reply>[]): Entry<Reply>[][] {
  const slots = new Map<number, Entry<Reply>[]>();
  for (const entry of entries) {
    const group = slots.get(entry.slot);
    if (group) group.push(entry);
    else slots.set(entry.slot, [entry]);
  }
  return [...slots.values()];
}

function chunks<Reply>(entries: readonly Entry<Reply>[]): Entry<Reply>[][] {
  const result: Entry<Reply>[][] = [];
  let chunk: Entry<Reply>[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (chunk.length > 0 && (chunk.length >= maxEntries || bytes + entry.bytes > maxBytes)) {
      result.push(chunk);
      chunk = [];
      bytes = 0;
    }
    chunk.push(entry);
    bytes += entry.bytes;
  }
  if (chunk.length > 0) result.push(chunk);
  return result;
}
