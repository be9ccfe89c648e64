/** Groups what is asked of Redis within one turn of the event loop: one script call for each Redis, in a cluster one for each slot. */
import type { CellAccess, Cells } from "../redis/cells.ts";
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
  #waiting: Entry<Reply>[] = [];

  /** @param options.script replies with an array: a reply for each entry, in order. */
  constructor(options: { script: Script<Reply[]>; arguments: Arguments; cells: Cells }) {
    this.#script = options.script;
    this.#arguments = options.arguments;
    this.#cells = options.cells;
  }

  /** Entries of one slot are executed in the order of the calls. */
  async add(slot: number, values: readonly Argument[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const bytes = values.reduce<number>((sum, value) => sum + String(value).length, 0);
      if (this.#waiting.push({ slot, values, bytes, resolve, reject }) === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const entries = this.#waiting;
    this.#waiting = [];
    for (const batch of chunks(bySlot(entries).flat())) this.#run(batch);
  }

  #run(batch: readonly Entry<Reply>[]): void {
    const slots = new Map(bySlot(batch).map((entries) => [entries[0]?.slot ?? 0, entries]));
    const bytes = batch.reduce((sum, entry) => sum + entry.bytes, 0);
    const groups = this.#cells.groups([...slots.keys()], async (cell, own) => this.#ask(cell, own, slots), bytes);
    for (const { slots: failed, replies } of groups) {
      // An entry that has its reply keeps it.
      replies.catch((error: unknown) => {
        for (const slot of failed) for (const entry of slots.get(slot) ?? []) entry.reject(error);
      });
    }
  }

  async #ask(
    cell: CellAccess,
    own: readonly number[],
    slots: ReadonlyMap<number, readonly Entry<Reply>[]>,
  ): Promise<void> {
    const groups = own.map((slot) => ({ prefix: slotPrefix(cell.root, slot), entries: slots.get(slot) ?? [] }));
    const values = this.#arguments(
      groups.map(({ prefix, entries }) => ({ prefix, entries: entries.map(({ values }) => values) })),
    );
    const replies = await cell.run(this.#script, ...scriptKeys(cell, own[0] ?? 0), ...values);
    for (const [index, entry] of groups.flatMap(({ entries }) => entries).entries()) {
      entry.resolve(replies[index] as Reply);
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
