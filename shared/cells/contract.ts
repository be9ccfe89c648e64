/** The contract of the map of cells: what the API, the mover and metrics know of cells. */
import type { CellMap } from "../redis/cell-map.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { StoreState } from "../runtime/store-state.ts";

/** A live process of the fleet: a gateway or a private API. */
export interface CellProcess {
  /** The newest map for which it follows every topic at the cells that the map names. */
  readonly version: number;
  /** The cells of its settings. */
  readonly cells: readonly string[];
}

export interface CellMaps extends Service {
  /** In force in this process. */
  readonly map: CellMap;
  /** Of this process's connections, by cell, the fleet's first. */
  readonly states: ReadonlyMap<string, StoreState>;
  /** Reads the map. */
  refresh(): Promise<CellMap>;
  /**
   * Replaces the map, unless it has another version than `map`.
   * @returns the new map, or a later one; undefined: it has another version, and nothing was changed. @throws TidegateError `broker_unavailable`, also
   * where the map was replaced, and the new one cannot be read
   */
  replace(map: CellMap): Promise<CellMap | undefined>;
  processes(): Promise<readonly CellProcess[]>;
}
