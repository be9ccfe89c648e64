/** Asks about slots: one call for each Redis, in a cluster one for each slot. Each call succeeds or fails by itself. */
import type { CellAccess, Cells } from "./cells.ts";
import type { Argument } from "./client.ts";
import type { Script } from "./scripts.ts";

/** Slots that could not be reached: the rest of an answer is about the other slots. */
export interface UnreachedSlots {
  readonly slots: readonly number[];
  /** TidegateError `broker_unavailable`; anything else is a bug. */
  readonly error: unknown;
}

/** How the scripts of a store address a slot. */
export interface SlotNames {
  /** For a script of a group of slots that begins with this one. */
  keys: (cell: CellAccess, slot: number) => readonly string[];
  /** The name that stands for the slot in the script's values. */
  prefix: (root: string, slot: number) => string;
}

export class SlotGroups {
  readonly #cells: Cells;
  readonly #names: SlotNames;

  constructor(cells: Cells, names: SlotNames) {
    this.#cells = cells;
    this.#names = names;
  }

  /** @param ask as for {@link Cells.groups}. @returns what the groups that were reached have answered, and the others. */
  async ask<Result>(
    slots: readonly number[],
    ask: (cell: CellAccess, slots: readonly number[]) => Promise<Result>,
  ): Promise<{ results: Result[]; unreached: UnreachedSlots[] }> {
    const groups = this.#cells.groups(slots, ask);
    const outcomes = await Promise.allSettled(groups.map(async ({ replies }) => replies));
    const results: Result[] = [];
    const unreached: UnreachedSlots[] = [];
    for (const [at, outcome] of outcomes.entries()) {
      if (outcome.status === "fulfilled") results.push(...outcome.value);
      else unreached.push({ slots: groups[at]?.slots ?? [], error: outcome.reason });
    }
    return { results, unreached };
  }

  /** Of a Redis, so many slots at once. */
  async askInChunks<Result>(
    slots: readonly number[],
    size: number,
    ask: (cell: CellAccess, slots: readonly number[]) => Promise<Result>,
  ): Promise<{ results: Result[]; unreached: UnreachedSlots[] }> {
    const count = Math.ceil(slots.length / size);
    const chunks = Array.from({ length: count }, (_, at) => slots.slice(at * size, (at + 1) * size));
    const answers = await Promise.all(chunks.map(async (chunk) => this.ask(chunk, ask)));
    return {
      results: answers.flatMap(({ results }) => results),
      unreached: answers.flatMap(({ unreached }) => unreached),
    };
  }

  /**
   * One script call for each group.
   * @param ask.replies of the entries of one call, in their order
   * @returns a reply for each entry, in order.
   */
  each<Entry extends { readonly slot: number }, Answer, Reply>(
    script: Script<Answer>,
    entries: readonly Entry[],
    ask: {
      common: readonly Argument[];
      of: (entry: Entry) => readonly Argument[];
      replies: (answer: Answer, entries: readonly Entry[]) => readonly Reply[];
    },
  ): Promise<Reply>[] {
    const asked = entries.map((entry) => {
      const { promise, resolve, reject } = Promise.withResolvers<Reply>();
      return { entry, promise, resolve, reject };
    });
    const bySlot = Map.groupBy(asked, ({ entry }) => entry.slot);
    const { keys, prefix } = this.#names;
    const groups = this.#cells.groups([...bySlot.keys()], async (cell, slots) => {
      const own: typeof asked = [];
      const listed: Argument[] = [];
      for (const slot of slots) {
        for (const each of bySlot.get(slot) ?? []) {
          own.push(each);
          listed.push(prefix(cell.root, slot), ...ask.of(each.entry));
        }
      }
      const answer = await cell.run(script, ...keys(cell, slots[0] ?? 0), ...ask.common, ...listed);
      const replies = ask.replies(
        answer,
        own.map(({ entry }) => entry),
      );
      for (const [at, { resolve }] of own.entries()) resolve(replies[at] as Reply);
    });
    for (const { slots, replies } of groups) {
      // An entry that has its reply keeps it.
      replies.catch((error: unknown) => {
        for (const slot of slots) for (const { reject } of bySlot.get(slot) ?? []) reject(error);
      });
    }
    return asked.map(({ promise }) => promise);
  }
}
