import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { changeMap } from "../../shared/cells/change-map.ts";
import { wellFormedPattern } from "../../shared/protocol/grammar.ts";
import type { CellMap, CellMapContent } from "../../shared/redis/cell-map.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { pinTenant, unpinTenant } from "../cells/plan-pins.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { ListedPin, toListedPin } from "./list-cells.ts";
import { CellPath, requireCell, requireKnown } from "./move-slots.ts";

const Pin = Type.Object(
  { tenant: Type.String({ minLength: 1, maxLength: 256, pattern: wellFormedPattern.source }) },
  { additionalProperties: false },
);
const Answer = Type.Object({ version: Type.Integer(), pins: Type.Array(ListedPin) });

/**
 * `POST /v1/cells/{cell}/pin { tenant }` → 202: new queues of the tenant are in the cell.
 * `POST /v1/cells/{cell}/unpin { tenant }` → 202: new queues of the tenant are in the cells of their slots again.
 */
export function addPinTenant(app: FastifyInstance, context: PrivateApiContext): void {
  const route = (
    name: "pin" | "unpin",
    summary: string,
    plan: (map: CellMap, order: { cell: string; tenant: string }) => Partial<CellMapContent> | undefined,
  ): void => {
    app.post<{ Params: Static<typeof CellPath>; Body: Static<typeof Pin> }>(
      `/v1/cells/:cell/${name}`,
      {
        config: { access: "operate" },
        schema: { summary, tags: ["cells"], params: CellPath, body: Pin, response: { 202: Answer } },
      },
      async ({ params: { cell }, body: { tenant } }, reply) => {
        const { cellMaps, logger } = context;
        requireCell(context, cell);
        if (cellMaps.states.size === 1) {
          throw new TidegateError("invalid_request", "there is one cell only: set REDIS_CELLS");
        }
        await requireKnown(context, [cell]);
        const map = await changeMap(cellMaps, (map) => plan(map, { cell, tenant }));
        logger.info({ tenant, cell, version: map.version }, `${name} of a tenant ordered`);
        return reply
          .code(202)
          .send({ version: map.version, pins: [...map.pins.keys()].map((each) => toListedPin(map, each)) });
      },
    );
  };
  route("pin", "Keep the queues of a tenant in a cell", (map, order) => pinTenant(map, order, Date.now()));
  route("unpin", "Keep the queues of a tenant in the cells of their slots", (map, { cell, tenant }) =>
    unpinTenant(map, { cell, tenant }, Date.now()),
  );
}
