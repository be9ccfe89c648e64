import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { PrivateApiContext } from "../node/context.ts";

const NodePath = Type.Object({ node: Type.String({ minLength: 1 }) });

/** `POST /v1/nodes/{node}/drain` → 202: every node of that name starts to drain with its next report. */
export function addDrainNode(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<{ Params: Static<typeof NodePath> }>(
    "/v1/nodes/:node/drain",
    {
      config: { access: "operate" },
      schema: { summary: "Move the sessions of a node to other nodes", tags: ["fleet"], params: NodePath },
    },
    async (request, reply) => {
      const { node } = request.params;
      const ordered = await context.nodeRegistry.orderDrain(node);
      if (ordered === 0) throw new TidegateError("not_found", "no such node");
      context.logger.info({ node, ordered }, "drain ordered");
      return reply.code(202).send({});
    },
  );
}
