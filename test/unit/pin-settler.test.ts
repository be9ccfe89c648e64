/** How long the earlier place of a pinned tenant is kept. */
import { expect, onTestFinished, test, vi } from "vitest";
import { PinSettler } from "../../private-api/cells/pin-settler.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { dedupeMs } from "../../shared/queues/contract.ts";
import { type CellMap, newCellMap, type TenantPlace } from "../../shared/redis/cell-map.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

test("CELL-18: the ten minutes of an earlier place do not begin again where a Redis restarts at their end", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const places: [TenantPlace, TenantPlace] = [
    { slot: "hash", since: 1, startedAt: 0 },
    { slot: slotCount, since: 2, startedAt: 0 },
  ];
  const map: CellMap = { version: 2, ...newCellMap("a"), pins: new Map([["stark", places]]) };
  const replaced: CellMap[] = [];
  const maps: Pick<CellMaps, "map" | "refresh" | "replace"> = {
    map,
    refresh: async () => map,
    replace: async (next) => {
      replaced.push(next);
      return next;
    },
  };
  let isAway = false;
  const nothingLeft = async (): Promise<number[]> => {
    if (isAway) throw brokerUnavailable("it restarts");
    return [0];
  };
  const groups = (slots: readonly number[]): unknown => [{ slots, replies: nothingLeft() }];
  const cells = { isRouted: true, all: new Map(), groups, ofSlots: nothingLeft } as unknown as Cells;
  let now = 0;
  const common = { errors: quietErrors, logger: quietLogger };
  const settler = new PinSettler({ cells, maps: maps as CellMaps, ...common, now: () => now });
  await settler.start();
  await vi.advanceTimersByTimeAsync(1_000);
  now = dedupeMs;
  isAway = true;
  await vi.advanceTimersByTimeAsync(1_000);
  expect(replaced).toEqual([]);
  isAway = false;
  await vi.advanceTimersByTimeAsync(1_000);
  await settler.stop();
  expect(replaced.map(({ pins }) => pins.get("stark"))).toEqual([[places[1]]]);
});
