/** Asks about slots: one call for each Redis, in a cluster one for each slot. Each call succeeds or fails by itself. */
import type { CellAccess, Cells } from "../redis/cells.ts";
import type { Script } from "../redis/scripts.ts";
import type { UnreachedSlots } from "./contract.ts";
import { scriptKeys, slotPrefix } from "./keys.ts";

type Argument = string | number;

export class SlotGroups {
  readonly #cells: Cells;

  constructor(cells: Cells) {
    this.#cells = cells;
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

  /** One script call for each group. @returns a reply for each entry, in order. */
  each<Entry extends { readonly slot: number }, Reply>(
    script: Script<Reply[]>,
    entries: readonly Entry[],
    values: { common: readonly Argument[]; of: (entry: Entry) => readonly Argument[] },
  ): Promise<Reply>[] {
    const asked = entries.map((entry) => ({ entry, ...Promise.withResolvers<Reply>() }));
    const bySlot = Map.groupBy(asked, ({ entry }) => entry.slot);
    const groups = this.#cells.groups([...bySlot.keys()], async (cell, slots) => {
      const own = slots.flatMap((slot) => bySlot.get(slot) ?? []);
      const listed = own.flatMap(({ entry }) => [slotPrefix(cell.root, entry.slot), ...values.of(entry)]);
      const answers = await cell.run(script, ...scriptKeys(cell, slots[0] ?? 0), ...values.common, ...listed);
      for (const [at, { resolve }] of own.entries()) resolve(answers[at] as Reply);
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
