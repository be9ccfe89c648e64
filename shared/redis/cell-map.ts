/** Which cell owns which slot, and what moves. A versioned document that all processes of a deployment share. Pure. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import { describeFindings } from "../runtime/schema-errors.ts";
import { everySlot, slotCount } from "./slots.ts";

/**
 * `waiting` for earlier moves; `preparing`: keys are copied and followers subscribe at the destination while the source serves;
 * `closed`: calls of the slots wait; `switched`: the destination serves, the source is cleared; `aborting`: the source serves, the
 * destination is cleared.
 */
export const moveSteps = ["waiting", "preparing", "closed", "switched", "aborting"] as const;
export type MoveStep = (typeof moveSteps)[number];

export interface SlotMove {
  /** The version of the map that began it: later moves have greater ids. */
  readonly id: number;
  readonly slots: readonly number[];
  readonly from: string;
  readonly to: string;
  readonly step: MoveStep;
  /** Unix ms. */
  readonly startedAt: number;
  /** Why the last attempt failed. */
  readonly error?: string;
}

export interface CellMap {
  /** 0: none is known. */
  readonly version: number;
  /** The cell of each slot. */
  readonly owners: readonly string[];
  readonly moves: readonly SlotMove[];
}

export const cellNamePattern = /^[a-z0-9][a-z0-9_-]{0,31}$/;

const StoredMove = Type.Object({
  id: Type.Integer({ minimum: 1 }),
  slots: Type.String(),
  from: Type.String(),
  to: Type.String(),
  step: Type.Enum([...moveSteps]),
  startedAt: Type.Integer(),
  error: Type.Optional(Type.String()),
});
const StoredMap = Type.Object({ slots: Type.Record(Type.String(), Type.String()), moves: Type.Array(StoredMove) });
const storedMapValidator = Compile(StoredMap);

export function newCellMap(first: string): Pick<CellMap, "owners" | "moves"> {
  return { owners: everySlot.map(() => first), moves: [] };
}

/** As stored. */
export function formatCellMap({ owners, moves }: Pick<CellMap, "owners" | "moves">): Static<typeof StoredMap> {
  const slots = Object.fromEntries(
    [...new Set(owners)].sort().map((cell) => [cell, formatSlots(slotsOf({ owners }, cell))]),
  );
  return { slots, moves: moves.map((move) => ({ ...move, slots: formatSlots(move.slots) })) };
}

/** @throws InvalidDocument */
export function parseCellMap(version: number, document: unknown): CellMap {
  if (!storedMapValidator.Check(document))
    throw new InvalidDocument("cells", describeFindings(storedMapValidator.Errors(document)));
  const owners: string[] = [];
  for (const [cell, text] of Object.entries(document.slots))
    for (const slot of parseSlots(text) ?? []) owners[slot] = cell;
  const missing = everySlot.filter((slot) => owners[slot] === undefined);
  if (missing.length > 0) throw new InvalidDocument("cells", [`slots: no cell has ${formatSlots(missing)}`]);
  return { version, owners, moves: document.moves.map((move) => ({ ...move, slots: parseSlots(move.slots) ?? [] })) };
}

export function slotsOf({ owners }: Pick<CellMap, "owners">, cell: string): number[] {
  return owners.flatMap((owner, slot) => (owner === cell ? [slot] : []));
}

/** `0-63,70` */
export function formatSlots(slots: readonly number[]): string {
  const ranges: { first: number; last: number }[] = [];
  for (const slot of slots.toSorted((one, other) => one - other)) {
    const range = ranges.at(-1);
    if (range && slot === range.last + 1) range.last = slot;
    else ranges.push({ first: slot, last: slot });
  }
  return ranges.map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`)).join(",");
}

/** Undefined where the text names no slots, or one that does not exist. */
export function parseSlots(text: string): number[] | undefined {
  const slots = new Set<number>();
  for (const range of text === "" ? [] : text.split(",")) {
    const [, first = "", last = first] = /^\s*(\d{1,3})(?:-(\d{1,3}))?\s*$/.exec(range) ?? [];
    if (first === "" || Number(last) >= slotCount || Number(first) > Number(last)) return undefined;
    for (let slot = Number(first); slot <= Number(last); slot++) slots.add(slot);
  }
  return [...slots].sort((one, other) => one - other);
}
