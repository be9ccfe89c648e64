/** What the lists of the fleet have in common: `?limit&after` → `{ items, next?, missing? }`. */
import { type Static, type TSchema, Type } from "typebox";
import type { InventoryQuestion } from "../../shared/inventory/contract.ts";
import type { FleetPage, ListedItem } from "../fleet/fleet-lists.ts";

const defaultLimit = 100;

export const pageQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, description: `${defaultLimit} without it` })),
    after: Type.Optional(Type.String({ maxLength: 8_192, description: "`next` of the page before" })),
  },
  { additionalProperties: false },
);
export type PageQuery = Static<typeof pageQuery>;

export function pageAnswer<Item extends TSchema>(item: Item) {
  return Type.Object({
    items: Type.Array(item),
    next: Type.Optional(Type.String({ description: "Absent on the last page" })),
    missing: Type.Optional(
      Type.Array(Type.String(), {
        description: "Nodes that did not answer: what only they have is not listed. Absent where all did",
      }),
    ),
  });
}

export function questionOf(
  kind: InventoryQuestion["kind"],
  { limit = defaultLimit, after }: PageQuery,
): InventoryQuestion {
  return { kind, limit, ...(after !== undefined && { after }) };
}

export function toAnswer<Item>(
  { items, next, missing }: FleetPage,
  toItem: (item: ListedItem) => Item,
): { items: Item[]; next?: string; missing?: string[] } {
  return {
    items: items.map(toItem),
    ...(next !== undefined && { next }),
    ...(missing.length > 0 && { missing: [...missing] }),
  };
}
