/** Where the queues of a tenant go once it is pinned, or is not any more. Pure. */
import type { CellMap, CellMapContent, TenantPin, TenantPlace } from "../../shared/redis/cell-map.ts";
import { pinnedCell } from "../../shared/queues/tenant-places.ts";
import { pinSlotCount, slotCount } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { movingSlots } from "./plan-moves.ts";

/** The map is one document. */
const maxPins = 1_000;

/** @param now Unix ms @returns undefined: the tenant is pinned to the cell. @throws TidegateError `conflict` */
export function pinTenant(
  map: CellMap,
  { tenant, cell }: { tenant: string; cell: string },
  now: number,
): Partial<CellMapContent> | undefined {
  if (map.pins.size >= maxPins && !map.pins.has(tenant)) {
    throw new TidegateError("conflict", `${maxPins} tenants are pinned: unpin some first`);
  }
  const { slot, owners } = slotFor(map, cell);
  return changedPlace({ ...map, owners }, tenant, { slot, startedAt: now });
}

/** @param now Unix ms @throws TidegateError `conflict` where it is not pinned to the cell */
export function unpinTenant(
  map: CellMap,
  { tenant, cell }: { tenant: string; cell: string },
  now: number,
): Partial<CellMapContent> | undefined {
  if (pinnedCell(map, tenant) !== cell) throw new TidegateError("conflict", `the tenant is not pinned to ${cell}`);
  return changedPlace(map, tenant, { slot: "hash", startedAt: now });
}

/** Without the oldest place. Undefined where the pin has changed. */
export function withoutOldest(
  { pins }: CellMap,
  tenant: string,
  known: TenantPin,
): Partial<CellMapContent> | undefined {
  const [, second, ...others] = pins.get(tenant) ?? [];
  if (pins.get(tenant)?.at(-1)?.since !== known.at(-1)?.since || pins.get(tenant)?.length !== known.length)
    return undefined;
  const changed = new Map(pins);
  if (!second || (second.slot === "hash" && others.length === 0)) changed.delete(tenant);
  else changed.set(tenant, [second, ...others] as unknown as TenantPin);
  return { pins: changed };
}

/** A slot that the cell has for pinned tenants, or a new one. */
function slotFor(map: CellMap, cell: string): { slot: number; owners: readonly string[] } {
  const moving = movingSlots(map);
  const known = map.owners.findIndex((owner, slot) => slot >= slotCount && owner === cell && !moving.has(slot));
  if (known !== -1) return { slot: known, owners: map.owners };
  const slot = map.owners.length;
  if (slot >= slotCount + pinSlotCount) {
    throw new TidegateError("conflict", `no slot is left for pinned tenants of ${cell}: drain another cell to it`);
  }
  return { slot, owners: [...map.owners, cell] };
}

function changedPlace(
  { version, owners, pins }: CellMap,
  tenant: string,
  place: Omit<TenantPlace, "since">,
): Partial<CellMapContent> | undefined {
  const places = pins.get(tenant) ?? [{ slot: "hash", since: version, startedAt: 0 } as const];
  if (places.at(-1)?.slot === place.slot) return undefined;
  // A place that becomes the newest again is visited once.
  const earlier = places.filter(({ slot }) => slot !== place.slot);
  return { owners, pins: new Map([...pins, [tenant, [...earlier, { ...place, since: version + 1 }]]]) };
}
