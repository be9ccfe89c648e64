import type { CellMap, CellMapContent } from "../redis/cell-map.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import type { CellMaps } from "./contract.ts";

const maxTries = 10;

/**
 * Changes the map, again where someone else changes it at the same time.
 * @param edit gets the newest map, whose next version is one more. Undefined: nothing is to be changed.
 * @returns the map that is in force then.
 */
export async function changeMap(
  maps: CellMaps,
  edit: (map: CellMap) => Partial<CellMapContent> | undefined,
): Promise<CellMap> {
  for (let tries = 0; tries < maxTries; tries++) {
    const map = await maps.refresh();
    const edited = edit(map);
    if (!edited) return map;
    const replaced = await maps.replace({ ...map, ...edited });
    if (replaced) return replaced;
  }
  throw brokerUnavailable("the map of cells changes too often");
}
