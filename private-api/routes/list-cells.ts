import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import type { CellMaps } from "../../shared/cells/contract.ts";
import { type CellMap, formatSlots, moveSteps, type SlotMove, slotsOf } from "../../shared/redis/cell-map.ts";
import { pinnedCell } from "../../shared/queues/tenant-places.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import type { PrivateApiContext } from "../node/context.ts";

export const ListedMove = Type.Object({
  id: Type.Integer(),
  slots: Type.String({ description: "Ranges, as in 0-15" }),
  count: Type.Integer(),
  from: Type.String(),
  to: Type.String(),
  step: Type.Enum([...moveSteps]),
  startedAt: Type.Integer({ description: "Unix ms" }),
  error: Type.Optional(Type.String({ description: "Why the last attempt failed; it is repeated" })),
});

const Cell = Type.Object({
  cell: Type.String(),
  state: Type.Enum(["ok", "away", "deaf", "refusing"]),
  slots: Type.String({ description: "Ranges, as in 0-63,70" }),
  count: Type.Integer(),
});

export const ListedPin = Type.Object({
  tenant: Type.String(),
  cell: Type.Optional(Type.String({ description: "Where its new queues are. Left out: in the cells of their slots" })),
  state: Type.Enum(["pinned", "moving"], { description: "moving: queues may be in an earlier place, too" }),
  startedAt: Type.Integer({ description: "Unix ms" }),
});

const Answer = Type.Object({
  version: Type.Integer(),
  cells: Type.Array(Cell),
  moves: Type.Array(ListedMove),
  pins: Type.Array(ListedPin),
});

/** `GET /v1/cells` → the map of cells. The first cell is the fleet's. */
export function addListCells(app: FastifyInstance, { cellMaps }: PrivateApiContext): void {
  app.get(
    "/v1/cells",
    {
      config: { access: "read" },
      schema: { summary: "Which cell owns which slots, and what moves", tags: ["cells"], response: { 200: Answer } },
    },
    async () => listCells(cellMaps),
  );
}

async function listCells(maps: CellMaps): Promise<Static<typeof Answer>> {
  const map = await maps.refresh();
  const { states } = maps;
  const names = [...new Set([...states.keys(), ...map.owners])];
  const cells = names.map((cell) => {
    const slots = slotsOf(map, cell).filter((slot) => slot < slotCount);
    return { cell, state: states.get(cell) ?? "away", slots: formatSlots(slots), count: slots.length };
  });
  const pins = [...map.pins.keys()].map((tenant) => toListedPin(map, tenant));
  return { version: map.version, cells, moves: map.moves.map(toListedMove), pins };
}

export function toListedPin(map: CellMap, tenant: string): Static<typeof ListedPin> {
  const places = map.pins.get(tenant) ?? [];
  const cell = pinnedCell(map, tenant);
  return {
    tenant,
    ...(cell !== undefined && { cell }),
    state: places.length > 1 ? "moving" : "pinned",
    startedAt: places.at(-1)?.startedAt ?? 0,
  };
}

export function toListedMove({ slots, ...move }: SlotMove): Static<typeof ListedMove> {
  return { ...move, slots: formatSlots(slots), count: slots.length };
}
