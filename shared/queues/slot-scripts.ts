/** Scripts of the queues, and calls of those that concern one slot. */
import type { Cells } from "../redis/cells.ts";
import type { Argument } from "../redis/client.ts";
import { type Script, script } from "../redis/scripts.ts";
import { scriptKeys, slotPrefix } from "./keys.ts";

/** Its keys are {@link scriptKeys}: they decide which server runs it, and whether the server refuses it while the slot moves. */
export function queueScript<Reply>(file: string, options: { isBatch?: boolean } = {}): Script<Reply> {
  return script<Reply>(new URL(file, import.meta.url), 2, options);
}

/** A script of one slot: its keys, and the prefix of the slot, precede the values. */
export async function runAt<Reply>(
  cells: Pick<Cells, "atSlot">,
  script: Script<Reply>,
  slot: number,
  ...values: readonly Argument[]
): Promise<Reply> {
  return cells.atSlot(slot, async (cell) =>
    cell.run(script, ...scriptKeys(cell, slot), slotPrefix(cell.root, slot), ...values),
  );
}
