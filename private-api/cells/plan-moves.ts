/** Which slots a cell takes or gives away. Pure. */
import { type CellMap, type SlotMove, slotsOf } from "../../shared/redis/cell-map.ts";
import { slotCount } from "../../shared/redis/slots.ts";

/** Slots that move together: a copy scans the whole source once for all of them, and they are closed together. */
export const slotsAtOnce = 16;

export interface PlannedMove {
  readonly slots: readonly number[];
  readonly from: string;
  readonly to: string;
}

/** Each of these slots that another cell owns. */
export function takeSlots(map: CellMap, to: string, slots: readonly number[]): PlannedMove[] {
  const bySource = Map.groupBy(slots, (slot) => map.owners[slot] ?? "");
  return [...bySource].flatMap(([from, own]) => (from === to ? [] : inMoves(own, from, to)));
}

/** So many slots that do not move yet, of the cells that have the most. */
export function takeCount(map: CellMap, to: string, count: number): PlannedMove[] {
  const free = [...freeSlots(map)]
    .map(([cell, slots]) => [cell, slots.filter(isHashSlot)] as const)
    .filter(([cell]) => cell !== to);
  const taken: number[] = [];
  while (taken.length < count) {
    const [fullest] = free.toSorted(([, one], [, other]) => other.length - one.length);
    const slot = fullest?.[1].pop();
    if (slot === undefined) break;
    taken.push(slot);
  }
  return takeSlots(map, to, taken);
}

/** All of its slots that do not move yet, those of pinned tenants included, to the cells that have the fewest. */
export function drainCell(map: CellMap, from: string, others: readonly string[]): PlannedMove[] {
  const counts = new Map(others.map((cell) => [cell, expectedCount(map, cell)]));
  const byTarget = new Map<string, number[]>();
  for (const slot of freeSlots(map).get(from) ?? []) {
    const [[to] = [""]] = [...counts].toSorted(([, one], [, other]) => one - other);
    counts.set(to, (counts.get(to) ?? 0) + 1);
    byTarget.set(to, [...(byTarget.get(to) ?? []), slot]);
  }
  return [...byTarget].flatMap(([to, slots]) => inMoves(slots, from, to));
}

export function movingSlots({ moves }: CellMap): ReadonlySet<number> {
  return new Set(moves.flatMap(({ slots }) => slots));
}

/** @param now Unix ms */
export function addMoves(
  map: CellMap,
  planned: readonly PlannedMove[],
  now: number,
): Pick<CellMap, "owners" | "moves"> {
  // The version that this change gives the map, and past it: ids grow, and no two moves have one.
  const first = Math.max(map.version, ...map.moves.map(({ id }) => id)) + 1;
  const added = planned.map((move, index): SlotMove => ({
    ...move,
    id: first + index,
    step: "waiting",
    startedAt: now,
  }));
  return { owners: map.owners, moves: [...map.moves, ...added] };
}

function isHashSlot(slot: number): boolean {
  return slot < slotCount;
}

function freeSlots(map: CellMap): Map<string, number[]> {
  const moving = movingSlots(map);
  const cells = [...new Set(map.owners)];
  return new Map(cells.map((cell) => [cell, slotsOf(map, cell).filter((slot) => !moving.has(slot))]));
}

/** When all moves are done. */
function expectedCount(map: CellMap, cell: string): number {
  const arriving = map.moves.filter(({ to, step }) => to === cell && step !== "switched" && step !== "aborting");
  const leaving = map.moves.filter(({ from, step }) => from === cell && step !== "switched" && step !== "aborting");
  const sum = (moves: readonly SlotMove[]): number => moves.reduce((count, { slots }) => count + slots.length, 0);
  return slotsOf(map, cell).length + sum(arriving) - sum(leaving);
}

function inMoves(slots: readonly number[], from: string, to: string): PlannedMove[] {
  const sorted = slots.toSorted((one, other) => one - other);
  return Array.from({ length: Math.ceil(sorted.length / slotsAtOnce) }, (_, at) => ({
    slots: sorted.slice(at * slotsAtOnce, (at + 1) * slotsAtOnce),
    from,
    to,
  }));
}
