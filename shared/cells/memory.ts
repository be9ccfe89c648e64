import { type CellMap, newCellMap } from "../redis/cell-map.ts";
import { onlyCell } from "../redis/target.ts";
import type { StoreState } from "../runtime/store-state.ts";
import type { CellMaps, CellProcess } from "./contract.ts";

/** The one cell of a process without Redis. Nothing can move. */
export class MemoryCellMaps implements CellMaps {
  readonly map: CellMap = { version: 0, ...newCellMap(onlyCell) };
  readonly states: ReadonlyMap<string, StoreState> = new Map([[onlyCell, "ok"]]);

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async refresh(): Promise<CellMap> {
    return this.map;
  }

  async replace(): Promise<undefined> {
    return undefined;
  }

  async processes(): Promise<readonly CellProcess[]> {
    return [{ version: 0, cells: [onlyCell] }];
  }
}
