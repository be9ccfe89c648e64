/** Orders to move slots between the cells of a deployment, as faults of order schedules. */
import { formatSlots, parseSlots } from "../../shared/redis/cell-map.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import type { SeededRandom } from "../../test/support/seeded-random.ts";
import type { PrivateApiAddress } from "../checker/private-api.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import { abortMoves, areSlotsMoving, takeSlots } from "./operations.ts";

/** Of the schedule's keys, and others, in one order. */
const ownSlots = 8;
const otherSlots = 8;
/** An order is aborted within this: a move takes a second or more. */
const maxAbortMs = 1_500;
const askEveryMs = 200;
/** It only ends a wait in vain: a move waits for each process of the fleet, also for one that is frozen or starts. */
const moveWithinMs = 300_000;

export interface CellMoves {
  readonly cells: readonly string[];
  /** Of the schedule's keys. */
  readonly slots: readonly number[];
  readonly api: PrivateApiAddress;
  /** The target of the faults: one of them at a time. */
  readonly map: object;
  /** So many slots have moved. */
  readonly onMoved: (slots: number) => void;
}

export function slotMoves({ cells, slots, api, map, onMoved }: CellMoves): Fault[] {
  const take = async (cell: string, random: SeededRandom): Promise<number> => {
    let moving: string | undefined;
    const wanted = formatSlots(drawSlots(slots, random));
    await within(async () => {
      moving = await takeSlots(api, cell, wanted);
      return true;
    }, "an order to move slots was not accepted");
    return parseSlots(moving ?? "")?.length ?? 0;
  };
  const settled = async (): Promise<void> => within(async () => !(await areSlotsMoving(api)), "slots still move");
  return [
    {
      kind: "slots moved between cells",
      targets: [map],
      run: async (_, random) => {
        // To one cell after the other, so that slots move wherever they are.
        const first = random.between(0, cells.length - 1);
        for (const cell of [...cells.slice(first), ...cells.slice(0, first)]) {
          const count = await take(cell, random);
          await settled();
          onMoved(count);
        }
      },
    },
    {
      kind: "move between cells aborted",
      targets: [map],
      run: async (_, random, signal) => {
        const cell = random.pick(cells);
        await take(cell, random);
        await lasts(random.between(0, maxAbortMs), signal);
        await within(async () => (await abortMoves(api, cell), true), "moves were not aborted");
        await settled();
      },
    },
  ];
}

function drawSlots(slots: readonly number[], random: SeededRandom): number[] {
  const own = Array.from({ length: ownSlots }, () => random.pick(slots));
  const others = Array.from({ length: otherSlots }, () => random.between(0, slotCount - 1));
  return [...new Set([...own, ...others])];
}

/** Asks again where the private API is away, or refuses. @throws where the time is up */
async function within(condition: () => Promise<boolean>, problem: string): Promise<void> {
  const deadline = performance.now() + moveWithinMs;
  let reason = "";
  const holds = async (): Promise<boolean> =>
    condition().catch((error: unknown) => {
      reason = `: ${String(error)}`;
      return false;
    });
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${problem} after ${moveWithinMs} ms${reason}`);
    await new Promise((resolve) => setTimeout(resolve, askEveryMs));
  }
}
