/** Asks about slots: one call for each Redis, in a cluster one for each slot. Each call succeeds or fails by itself. */
import type { Cells } from "../redis/cells.ts";
import type { RedisConnections } from "../redis/connections.ts";
import type { Script } from "../redis/scripts.ts";
import type { UnreachedSlots } from "./contract.ts";
import { scriptKeys, slotPrefix } from "./keys.ts";

type Argument = string | number;

interface Group {
  readonly cell: RedisConnections;
  readonly slots: readonly number[];
}

export class SlotGroups {
  readonly #cells: Cells;

  constructor(cells: Cells) {
    this.#cells = cells;
  }

  /** @returns what the groups that were reached have answered, and the others. */
  async ask<Result>(
    slots: readonly number[],
    ask: (cell: RedisConnections, slots: readonly number[]) => Promise<Result>,
  ): Promise<{ results: Result[]; unreached: UnreachedSlots[] }> {
    const groups = this.#of(slots);
    const outcomes = await Promise.allSettled(groups.map(async ({ cell, slots: own }) => ask(cell, own)));
    const results: Result[] = [];
    const unreached: UnreachedSlots[] = [];
    for (const [at, outcome] of outcomes.entries()) {
      if (outcome.status === "fulfilled") results.push(outcome.value);
      else unreached.push({ slots: groups[at]?.slots ?? [], error: outcome.reason });
    }
    return { results, unreached };
  }

  /** One script call for each group. @returns a reply for each entry, in order. */
  each<Entry extends { readonly slot: number }, Reply>(
    script: Script<Reply[]>,
    entries: readonly Entry[],
    values: { common: readonly Argument[]; of: (entry: Entry) => readonly Argument[] },
  ): Promise<Reply>[] {
    const replies: Promise<Reply>[] = [];
    const indexes = Map.groupBy(entries.keys(), (index) => entries[index]?.slot ?? 0);
    for (const { cell, slots } of this.#of([...indexes.keys()])) {
      const own = slots.flatMap((slot) => indexes.get(slot) ?? []);
      const listed = own.flatMap((index) => {
        const entry = entries[index];
        return entry ? [slotPrefix(cell.root, entry.slot), ...values.of(entry)] : [];
      });
      const answers = cell.run(script, ...scriptKeys(cell, slots[0] ?? 0), ...values.common, ...listed);
      for (const [at, index] of own.entries()) replies[index] = answers.then((answer) => answer[at] as Reply);
    }
    return replies;
  }

  #of(slots: readonly number[]): Group[] {
    return [...Map.groupBy(slots, (slot) => this.#cells.ofSlot(slot))].flatMap(([cell, own]) =>
      cell.spansSlots ? [{ cell, slots: own }] : own.map((slot) => ({ cell, slots: [slot] })),
    );
  }
}
