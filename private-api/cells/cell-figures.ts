import type { CellMaps } from "../../shared/cells/contract.ts";
import { slotsOf } from "../../shared/redis/cell-map.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import type { CellFigures } from "../metrics/metrics.ts";

/** For metrics, from the map in force. */
export function cellFigures({ map, states }: CellMaps): CellFigures {
  const cells = [...states.keys()];
  const arriving = (cell: string): number =>
    map.moves
      .filter(({ to, step }) => to === cell && step !== "switched" && step !== "aborting")
      .reduce((count, { slots }) => count + slots.length, 0);
  return {
    slots: Object.fromEntries(
      cells.map((cell) => [cell, slotsOf(map, cell).filter((slot) => slot < slotCount).length]),
    ),
    arriving: Object.fromEntries(cells.map((cell) => [cell, arriving(cell)])),
    up: Object.fromEntries(cells.map((cell) => [cell, states.get(cell) === "ok" ? 1 : 0])),
  };
}
