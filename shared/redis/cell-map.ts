/** Which cell owns which slot, and what moves. A versioned document that all processes of a deployment share. Pure. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import { describeFindings } from "../runtime/schema-errors.ts";
import { everySlot, pinSlotCount, slotCount } from "./slots.ts";

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

/** Where queues of a tenant are, or were. */
export interface TenantPlace {
  /** A slot past the hash slots; `"hash"`: the hash slots, as for tenants without a pin. */
  readonly slot: number | "hash";
  /** The version of the map that began it. */
  readonly since: number;
  /** Unix ms. */
  readonly startedAt: number;
}

/** The places of a tenant that is pinned, or was: the newest last. Queues are left in the earlier ones until they are empty. */
export type TenantPin = readonly [...earlier: TenantPlace[], newest: TenantPlace];

export interface CellMap {
  /** 0: none is known. */
  readonly version: number;
  /** The cell of each slot; those past the hash slots are there once a tenant was pinned to their cell. */
  readonly owners: readonly string[];
  readonly moves: readonly SlotMove[];
  readonly pins: ReadonlyMap<string, TenantPin>;
}

export type CellMapContent = Omit<CellMap, "version">;

const mostSlots = slotCount + pinSlotCount;

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
const StoredPlace = Type.Object({
  slot: Type.Union([Type.Integer({ minimum: slotCount, maximum: slotCount + pinSlotCount - 1 }), Type.Literal("hash")]),
  since: Type.Integer({ minimum: 1 }),
  startedAt: Type.Integer(),
});
const StoredPin = Type.Object({ tenant: Type.String(), places: Type.Array(StoredPlace, { minItems: 1 }) });
const StoredMap = Type.Object({
  slots: Type.Record(Type.String(), Type.String()),
  moves: Type.Array(StoredMove),
  pins: Type.Optional(Type.Array(StoredPin)),
});
const storedMapValidator = Compile(StoredMap);

export function newCellMap(first: string): CellMapContent {
  return { owners: everySlot.map(() => first), moves: [], pins: new Map() };
}

/** As stored. */
export function formatCellMap({ owners, moves, pins }: CellMapContent): Static<typeof StoredMap> {
  const slots = Object.fromEntries(
    [...new Set(owners)].sort().map((cell) => [cell, formatSlots(slotsOf({ owners }, cell))]),
  );
  return {
    slots,
    moves: moves.map((move) => ({ ...move, slots: formatSlots(move.slots) })),
    pins: [...pins].map(([tenant, places]) => ({ tenant, places: [...places] })),
  };
}

/** @throws InvalidDocument */
export function parseCellMap(version: number, document: unknown): CellMap {
  if (!storedMapValidator.Check(document))
    throw new InvalidDocument("cells", describeFindings(storedMapValidator.Errors(document)));
  const owners: string[] = [];
  for (const [cell, text] of Object.entries(document.slots))
    for (const slot of parseSlots(text, mostSlots) ?? []) owners[slot] = cell;
  const missing = Array.from({ length: Math.max(slotCount, owners.length) }, (_, slot) => slot).filter(
    (slot) => owners[slot] === undefined,
  );
  if (missing.length > 0) throw new InvalidDocument("cells", [`slots: no cell has ${formatSlots(missing)}`]);
  const moves = document.moves.map((move) => ({ ...move, slots: parseSlots(move.slots, mostSlots) ?? [] }));
  // The schema demands a place at least.
  const pins = (document.pins ?? []).map(({ tenant, places }) => [tenant, places as unknown as TenantPin] as const);
  return { version, owners, moves, pins: new Map(pins) };
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

/** Undefined where the text names no slots, or one that does not exist. @param count of the slots that exist */
export function parseSlots(text: string, count = slotCount): number[] | undefined {
  const slots = new Set<number>();
  for (const range of text === "" ? [] : text.split(",")) {
    const [, first = "", last = first] = /^\s*(\d{1,3})(?:-(\d{1,3}))?\s*$/.exec(range) ?? [];
    if (first === "" || Number(last) >= count || Number(first) > Number(last)) return undefined;
    for (let slot = Number(first); slot <= Number(last); slot++) slots.add(slot);
  }
  return [...slots].sort((one, other) => one - other);
}
