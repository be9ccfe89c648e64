/** How long the earlier place of a pinned tenant is kept. */
import { expect, onTestFinished, test, vi } from "vitest";
import { PinSettler } from "../../private-api/cells/pin-settler.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { dedupeMs } from "../../shared/queues/contract.ts";
import { type CellMap, newCellMap, type TenantPlace } from "../../shared/redis/cell-map.ts";
import type { Cells } from "../../shared/redis/cells.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { quietLogger } from "../support/logger.ts";

const places: [TenantPlace, TenantPlace] = [
  { slot: "hash", since: 1, startedAt: 0 },
  { slot: slotCount, since: 2, startedAt: 0 },
];

interface Rig {
  settler: PinSettler;
  errors: ContainedErrors;
  /** Maps that the settler has stored. */
  replaced: CellMap[];
  /** The clock of the settler: ms. */
  now: number;
  /** Its next look, up to its end. */
  look(): Promise<void>;
}

/** A tenant with nothing left in its earlier place. */
function rig(given: { all?: ReadonlyMap<string, unknown>; isAway?: () => boolean }): Rig {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const map: CellMap = { version: 2, ...newCellMap("a"), pins: new Map([["stark", places]]) };
  const maps: Pick<CellMaps, "map" | "refresh" | "replace"> = {
    map,
    refresh: async () => map,
    replace: async (next) => {
      made.replaced.push(next);
      return next;
    },
  };
  const nothingLeft = async (): Promise<number[]> => {
    if (given.isAway?.()) throw brokerUnavailable("it restarts");
    return [0];
  };
  const cells = {
    ...{ isRouted: true, all: given.all ?? new Map(), ofSlots: nothingLeft, raiseFence: async () => undefined },
    groups: (slots: readonly number[]) => [{ slots, replies: nothingLeft() }],
  } as unknown as Cells;
  const errors = new ContainedErrors(quietLogger);
  const common = { errors, logger: quietLogger, now: () => made.now };
  const made: Rig = {
    ...{ settler: new PinSettler({ cells, maps: maps as CellMaps, ...common }), errors, replaced: [], now: 0 },
    look: async () => void (await vi.advanceTimersByTimeAsync(1_000)),
  };
  return made;
}

test("CELL-18: the ten minutes of an earlier place do not begin again where a Redis restarts at their end", async () => {
  let isAway = false;
  const made = rig({ isAway: () => isAway });
  const { settler, replaced, look } = made;
  await settler.start();
  await look();
  made.now = dedupeMs;
  isAway = true;
  await look();
  expect(replaced).toEqual([]);
  isAway = false;
  await look();
  await settler.stop();
  expect(replaced.map(({ pins }) => pins.get("stark"))).toEqual([[places[1]]]);
});

test("CONT-2: a replica of a cell that is behind does not end the private API that settles a pin", async () => {
  let confirmed = 0;
  const cell = {
    primaries: [""],
    runAt: async (_primary: string, command: string) =>
      command === "info" ? "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n" : confirmed,
  };
  const made = rig({ all: new Map([["a", cell]]) });
  const { settler, errors, replaced, look } = made;
  await settler.start();
  await look();
  made.now = dedupeMs;
  await look();
  expect(replaced).toEqual([]);
  confirmed = 1;
  await look();
  await settler.stop();
  expect(replaced).toHaveLength(1);
  expect(errors.counts.timer, "it is expected").toBe(0);
});
