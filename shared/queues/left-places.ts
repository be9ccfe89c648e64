/** The steps at slots that a tenant has left, before the map forgets them: see tenant-places.ts. */
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { SlotGroups } from "../redis/slot-groups.ts";
import { scriptKeys, slotPrefix, tenantText } from "./keys.ts";

/** Of one script call, which looks at the depths of all tenants of a slot. */
const slotsAtOnce = 16;

const leaveScript = script<number>(new URL("leave-tenant.lua", import.meta.url), 2);
const forgetScript = script<number>(new URL("forget-tenant.lua", import.meta.url), 2);
export const numbersScript = script<string>(new URL("raise-numbers.lua", import.meta.url), 2);

/**
 * Marks the slots, so that callers with a map older than `since` store nothing more of the tenant there.
 * @returns the items that are left there; undefined: not all of the slots can be reached.
 */
export async function countLeft(
  cells: Cells,
  slots: readonly number[],
  { tenant, since }: { tenant: string; since: number },
): Promise<number | undefined> {
  const groups = new SlotGroups(cells, { keys: scriptKeys, prefix: slotPrefix });
  const { results, unreached } = await groups.askInChunks(slots, slotsAtOnce, async (cell, own) => {
    const prefixes = own.map((slot) => slotPrefix(cell.root, slot));
    return cell.run(leaveScript, ...scriptKeys(cell, own[0] ?? 0), tenantText(tenant), since, ...prefixes);
  });
  return unreached.length > 0 ? undefined : results.reduce((sum, count) => sum + count, 0);
}

/** Sequences and fencing tokens of the slots `to` continue past those of the slots `from`. @throws where one cannot be reached */
export async function continueNumbers(cells: Cells, from: readonly number[], to: readonly number[]): Promise<void> {
  const raise = async (slots: readonly number[], number: number): Promise<number[]> =>
    cells.ofSlots(slots, async (cell, own) =>
      Number(await cell.run(numbersScript, ...scriptKeys(cell, own[0] ?? 0), number)),
    );
  await raise(to, Math.max(...(await raise(from, 0))));
}

/** Removes the marks of {@link countLeft}. The fences of all cells MUST refuse maps older than `since`. */
export async function forgetLeft(
  cells: Cells,
  slots: readonly number[],
  { tenant, since }: { tenant: string; since: number },
): Promise<void> {
  await cells.ofSlots(slots, async (cell, own) => {
    const prefixes = own.map((slot) => slotPrefix(cell.root, slot));
    return cell.run(forgetScript, ...scriptKeys(cell, own[0] ?? 0), tenantText(tenant), since, ...prefixes);
  });
}
