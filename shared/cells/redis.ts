import { randomUUID } from "node:crypto";
import { reportLastsMs } from "../dispatchers/contract.ts";
import { readScript, reportScript } from "../dispatchers/redis.ts";
import type { DocumentStore } from "../documents/contract.ts";
import { CurrentDocument } from "../documents/current-document.ts";
import { type CellMap, formatCellMap, newCellMap, parseCellMap } from "../redis/cell-map.ts";
import type { Cells } from "../redis/cells.ts";
import { brokerUnavailable } from "../redis/unavailable.ts";
import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { TidegateError } from "../runtime/errors.ts";
import type { Logger } from "../runtime/logging.ts";
import type { StoreState } from "../runtime/store-state.ts";
import type { CellMaps, CellProcess } from "./contract.ts";
import { checkCellNames } from "./cell-names.ts";
import { processesKey } from "./keys.ts";

/** Reports of this process, and reads of the map: a message about a change may be lost. */
const heartbeatMs = 1_000;

/** The map of cells as a document in the fleet's cell. Each process keeps a copy, and tells which it follows. */
export class RedisCellMaps implements CellMaps {
  readonly #cells: Cells;
  readonly #store: DocumentStore;
  readonly #document: CurrentDocument<CellMap>;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #instance = randomUUID();
  readonly #key: string;
  #heartbeat: NodeJS.Timeout | undefined;

  /** The caller starts the store before, and stops it after. */
  constructor(options: { cells: Cells; store: DocumentStore; errors: ContainedErrors; logger: Logger }) {
    const { cells, store, errors, logger } = options;
    this.#cells = cells;
    this.#store = store;
    this.#errors = errors;
    this.#logger = logger;
    this.#key = processesKey(cells.fleet.root);
    this.#document = new CurrentDocument<CellMap>({
      name: "cells",
      store,
      none: cells.map,
      read: ({ version, document }) => {
        const map = parseCellMap(version, document);
        cells.use(map);
        return map;
      },
      errors,
      logger,
    });
  }

  get map(): CellMap {
    return this.#cells.map;
  }

  get states(): ReadonlyMap<string, StoreState> {
    return new Map([...this.#cells.all].map(([name, { state }]) => [name, state]));
  }

  async start(): Promise<void> {
    await checkCellNames(this.#cells, this.#store);
    if (this.#cells.isRouted) {
      this.#cells.refreshWith(() => this.#useNewest());
      await this.#document.start();
    }
    await this.#beat();
    this.#heartbeat = this.#errors.every(heartbeatMs, () => this.#beat());
  }

  async stop(): Promise<void> {
    clearInterval(this.#heartbeat);
    await this.#document.stop();
    await this.#cells.fleet.run("hdel", this.#key, this.#instance).catch((error: unknown) => this.#report(error));
  }

  async refresh(): Promise<CellMap> {
    if (this.#cells.isRouted) await this.#document.refresh();
    return this.map;
  }

  async replace(map: CellMap): Promise<CellMap | undefined> {
    const { kind, version } = await this.#store.put({
      document: formatCellMap(map),
      ifVersion: map.version,
    });
    await this.#document.refresh();
    if (kind === "version_differs") return undefined;
    if (this.map.version < version) throw brokerUnavailable("the new map of cells could not be read");
    return this.map;
  }

  async processes(): Promise<readonly CellProcess[]> {
    const [now, reports] = await this.#cells.fleet.run(readScript, this.#key);
    return reports.flatMap((report) => {
      const [heard = "0", version = "0", cells = ""] = report.split(" ");
      if (Number(heard) <= Number(now) - reportLastsMs) return [];
      return [{ version: Number(version), cells: cells.split(",") }];
    });
  }

  async #beat(): Promise<void> {
    try {
      if (this.#cells.isRouted) await this.#keepStored();
      const cells = [...this.#cells.all.keys()].join(",");
      const report = `${this.#cells.followedVersion} ${cells}`;
      await this.#cells.fleet.run(reportScript, this.#key, this.#instance, report, reportLastsMs);
    } catch (error) {
      this.#report(error);
    }
  }

  /** @throws TidegateError `broker_unavailable` where the newest map is not in force then: a cell without a fence must not get an older one */
  async #useNewest(): Promise<void> {
    const newest = await this.#keepStored();
    if (this.map.version < newest) throw brokerUnavailable("the newest map of cells could not be read");
  }

  /** Begins the map, and restores it where the fleet's cell has lost the latest one. @returns the version that is stored */
  async #keepStored(): Promise<number> {
    const stored = await this.#store.read();
    const { map } = this;
    if (stored && stored.version > map.version) await this.#document.refresh();
    if (stored && stored.version >= map.version) return stored.version;
    const [first = ""] = this.#cells.all.keys();
    const document = formatCellMap(map.version === 0 ? newCellMap(first) : map);
    const request = { document, ifVersion: stored?.version ?? 0, version: map.version + 1 };
    const { kind, version } = await this.#store.put(request);
    if (kind === "stored")
      this.#logger.warn({ version }, "the map of cells was stored: the fleet's cell had none, or an older one");
    await this.#document.refresh();
    return version;
  }

  /** A store that cannot be reached is an expected failure. */
  #report(error: unknown): void {
    if (error instanceof TidegateError) this.#logger.debug({ err: error }, "the map of cells could not be reached");
    else this.#errors.report("store", error);
  }
}
