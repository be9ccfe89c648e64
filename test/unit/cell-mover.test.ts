/** The lease of the process that moves slots. */
import { expect, onTestFinished, test, vi } from "vitest";
import { CellMover } from "../../private-api/cells/mover.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { type CellMap, newCellMap } from "../../shared/redis/cell-map.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

test("CELL-7: a process gives the lease of the mover up once when nothing moves any more", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  let asked: string[] = [];
  const run = async ({ name }: { name: string }): Promise<number> => asked.push(name) && 1;
  const nothing: CellMap = { version: 1, ...newCellMap("a") };
  const move = { id: 1, from: "a", to: "b", slots: [7], step: "waiting", startedAt: 0 } as const;
  const maps: Pick<CellMaps, "processes" | "refresh" | "replace"> & { map: CellMap } = {
    map: { ...nothing, moves: [move] },
    // The step fails: this process does not know the other cell.
    processes: async () => [{ version: 1, cells: ["a"] }],
    refresh: async () => maps.map,
    replace: async () => maps.map,
  };
  const mover = new CellMover({
    cells: { isRouted: true, fleet: { root: "tidegate", run }, all: new Map([["b", {}]]) } as unknown as Cells,
    maps: maps as CellMaps,
    onClosed: () => undefined,
    errors: quietErrors,
    logger: quietLogger,
  });
  await mover.start();
  await vi.advanceTimersByTimeAsync(300);
  expect(asked).toEqual(["cells/take-lease.lua 1"]);
  asked = [];
  maps.map = nothing;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toEqual(["cells/take-lease.lua 1", "cells/give-up-lease.lua 1"]);
  await mover.stop();
});
