/** Groups what is asked of Redis within one turn of the event loop: one script call for each Redis, in a cluster one for each slot. */
import type { CellAccess, Cells } from "../redis/cells.ts";
import type { Script } from "../redis/scripts.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
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
/** Behind calls under way, of all slots. */
const maxBehind = { entries: 20_000, bytes: 32 * 1024 * 1024 };

/** The arguments of a script for groups of entries, each group of one slot. */
export type Arguments = (
  groups: readonly { prefix: string; entries: readonly (readonly Argument[])[] }[],
) => Argument[];

export class SlotBatches<Reply> {
  readonly #script: Script<Reply[]>;
  readonly #arguments: Arguments;
  readonly #cells: Pick<Cells, "groups">;
  readonly #inOrder: boolean;
  #waiting: Entry<Reply>[] = [];
  /** By slot with a call under way, where calls are in order: the entries that wait for its end. */
  readonly #behind = new Map<number, Entry<Reply>[]>();
  #behindEntries = 0;
  #behindBytes = 0;

  /**
   * @param options.script replies with an array: a reply for each entry, in order.
   * @param options.inOrder see {@link add}
   */
  constructor(options: {
    script: Script<Reply[]>;
    arguments: Arguments;
    cells: Pick<Cells, "groups">;
    inOrder: boolean;
  }) {
    this.#script = options.script;
    this.#arguments = options.arguments;
    this.#cells = options.cells;
    this.#inOrder = options.inOrder;
  }

  /**
   * With `inOrder` entries of one slot are executed in the order of the calls: a call of a script may fail, or be sent once more, while a later
   * one succeeds, so a slot has one under way at a time. Entries that wait for a call fail with it.
   */
  async add(slot: number, values: readonly Argument[]): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const bytes = values.reduce<number>((sum, value) => sum + String(value).length, 0);
      this.#wait([{ slot, values, bytes, resolve, reject }]);
    });
  }

  #wait(entries: readonly Entry<Reply>[]): void {
    if (entries.length === 0) return;
    if (this.#waiting.length === 0) setImmediate(() => this.#flush());
    this.#waiting.push(...entries);
  }

  #flush(): void {
    const entries = this.#waiting;
    this.#waiting = [];
    for (const batch of chunks(bySlot(entries).flat())) {
      const free = this.#inOrder ? batch.filter((entry) => !this.#isBehind(entry)) : batch;
      if (free.length > 0) this.#run(free);
    }
  }

  /** Where it is, it is kept until the call before it has ended, or rejected. */
  #isBehind(entry: Entry<Reply>): boolean {
    const behind = this.#behind.get(entry.slot);
    if (!behind) return false;
    if (this.#behindEntries >= maxBehind.entries || this.#behindBytes + entry.bytes > maxBehind.bytes) {
      entry.reject(brokerUnavailable("too many items wait for the message store"));
      return true;
    }
    behind.push(entry);
    this.#behindEntries++;
    this.#behindBytes += entry.bytes;
    return true;
  }

  #run(batch: readonly Entry<Reply>[]): void {
    const slots = new Map(bySlot(batch).map((entries) => [entries[0]?.slot ?? 0, entries]));
    const bytes = batch.reduce((sum, entry) => sum + entry.bytes, 0);
    const groups = this.#cells.groups([...slots.keys()], async (cell, own) => this.#ask(cell, own, slots), bytes);
    if (this.#inOrder) for (const slot of slots.keys()) this.#behind.set(slot, []);
    for (const { slots: own, replies } of groups) {
      replies.then(
        () => {
          for (const slot of own) this.#wait(this.#takeBehind(slot));
        },
        (error: unknown) => {
          // An entry that has its reply keeps it.
          const failed = own.flatMap((slot) => [...(slots.get(slot) ?? []), ...this.#takeBehind(slot)]);
          for (const entry of failed) entry.reject(error);
        },
      );
    }
  }

  #takeBehind(slot: number): readonly Entry<Reply>[] {
    const behind = this.#behind.get(slot) ?? [];
    this.#behind.delete(slot);
    this.#behindEntries -= behind.length;
    for (const { bytes } of behind) this.#behindBytes -= bytes;
    return behind;
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
