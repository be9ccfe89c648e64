import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { changeMap } from "../../shared/cells/change-map.ts";
import { type CellMap, formatSlots, parseSlots } from "../../shared/redis/cell-map.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { addMoves, drainCell, movingSlots, type PlannedMove, takeCount, takeSlots } from "../cells/plan-moves.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { ListedMove, toListedMove } from "./list-cells.ts";

export const CellPath = Type.Object({ cell: Type.String({ minLength: 1 }) });
const Take = Type.Object(
  {
    slots: Type.Optional(Type.String({ description: "Ranges, as in 0-63,70" })),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: slotCount })),
  },
  { additionalProperties: false },
);
const Answer = Type.Object({
  version: Type.Integer(),
  slots: Type.String({ description: "What moves now, as ranges" }),
  moves: Type.Array(ListedMove),
});

/**
 * `POST /v1/cells/{cell}/take { slots | count }`, `POST /v1/cells/{cell}/drain` → 202: slots move one batch after the other.
 * `POST /v1/cells/{cell}/abort` → 202: the moves to and from the cell that have not switched are undone.
 */
export function addMoveSlots(app: FastifyInstance, context: PrivateApiContext): void {
  const config = { access: "operate" } as const;
  const schema = { tags: ["cells"], params: CellPath, response: { 202: Answer } };
  app.post<{ Params: Static<typeof CellPath>; Body: Static<typeof Take> }>(
    "/v1/cells/:cell/take",
    { config, schema: { ...schema, summary: "Move slots to a cell", body: Take } },
    async ({ params: { cell }, body }, reply) => {
      requireCell(context, cell);
      const wanted = wantedSlots(body);
      await requireKnown(context, [cell]);
      const plan = (map: CellMap): PlannedMove[] => {
        if (typeof wanted === "number") return takeCount(map, cell, wanted);
        const moving = movingSlots(map);
        const busy = wanted.filter((slot) => moving.has(slot));
        if (busy.length > 0) {
          throw new TidegateError("conflict", `slots ${formatSlots(busy)} are moving: wait, or abort their move`);
        }
        return takeSlots(map, cell, wanted);
      };
      return reply.code(202).send(await move(context, plan));
    },
  );
  app.post<{ Params: Static<typeof CellPath> }>(
    "/v1/cells/:cell/drain",
    { config, schema: { ...schema, summary: "Move all slots of a cell to the others" } },
    async ({ params: { cell } }, reply) => {
      requireCell(context, cell);
      const others = [...context.cellMaps.states.keys()].filter((other) => other !== cell);
      if (others.length === 0) throw new TidegateError("invalid_request", "there is one cell only: set REDIS_CELLS");
      await requireKnown(context, others);
      return reply.code(202).send(await move(context, (map) => drainCell(map, cell, others)));
    },
  );
  app.post<{ Params: Static<typeof CellPath> }>(
    "/v1/cells/:cell/abort",
    { config, schema: { ...schema, summary: "Undo the moves to and from a cell that have not switched" } },
    async ({ params: { cell } }, reply) => {
      requireCell(context, cell);
      return reply.code(202).send(await abort(context, cell));
    },
  );
}

export function requireCell({ cellMaps }: PrivateApiContext, cell: string): void {
  const names = [...cellMaps.states.keys()];
  if (!names.includes(cell)) throw new TidegateError("not_found", `no such cell: REDIS_CELLS has ${names.join(", ")}`);
}

function wantedSlots({ slots: text, count }: Static<typeof Take>): readonly number[] | number {
  if ((text === undefined) === (count === undefined)) {
    throw new TidegateError("invalid_request", "give slots or count");
  }
  if (count !== undefined) return count;
  const slots = parseSlots(text ?? "");
  if (!slots || slots.length === 0) {
    throw new TidegateError("invalid_request", `slots: must be ranges of 0 to ${slotCount - 1}, as in "0-63,70"`);
  }
  return slots;
}

/** A process that does not know a cell could not reach the slots that move there. */
export async function requireKnown({ cellMaps }: PrivateApiContext, cells: readonly string[]): Promise<void> {
  const processes = await cellMaps.processes();
  for (const cell of cells) {
    const lacking = processes.filter((process) => !process.cells.includes(cell)).length;
    if (lacking === 0) continue;
    const message = `${lacking} of ${processes.length} processes do not know cell ${cell}: restart them with it in REDIS_CELLS`;
    throw new TidegateError("conflict", message);
  }
}

async function move(
  { cellMaps, logger }: PrivateApiContext,
  plan: (map: CellMap) => PlannedMove[],
): Promise<Static<typeof Answer>> {
  let planned: PlannedMove[] = [];
  const map = await changeMap(cellMaps, (map) => {
    planned = plan(map);
    return planned.length === 0 ? undefined : addMoves(map, planned, Date.now());
  });
  const slots = formatSlots(planned.flatMap((each) => each.slots));
  logger.info({ slots, moves: planned.length, version: map.version }, "moves of slots ordered");
  return { version: map.version, slots, moves: map.moves.map(toListedMove) };
}

async function abort({ cellMaps, logger }: PrivateApiContext, cell: string): Promise<Static<typeof Answer>> {
  let aborted: readonly number[] = [];
  const map = await changeMap(cellMaps, ({ owners, moves }) => {
    const concerned = moves.filter(
      ({ from, to, step }) => (from === cell || to === cell) && step !== "switched" && step !== "aborting",
    );
    aborted = concerned.flatMap(({ slots }) => slots);
    if (concerned.length === 0) return undefined;
    return {
      owners,
      moves: moves.flatMap((known) => {
        if (!concerned.includes(known)) return known;
        // Nothing has been copied yet.
        return known.step === "waiting" ? [] : { ...known, step: "aborting" as const };
      }),
    };
  });
  logger.info({ slots: formatSlots(aborted), version: map.version }, "moves of slots aborted");
  return { version: map.version, slots: formatSlots(aborted), moves: map.moves.map(toListedMove) };
}
