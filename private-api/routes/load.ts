import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { dispatchersLoad } from "../../shared/load/dispatch-load.ts";
import { fleetLoad } from "../../shared/load/fleet-load.ts";
import { NodeLoadAnswer, thousandths, toLoadAnswer } from "../../shared/nodes/load-answer.ts";
import type { PrivateApiContext } from "../node/context.ts";

const Load = Type.Object({
  nodes: Type.Integer({ minimum: 0 }),
  mean: Type.Number({ minimum: 0 }),
  max: Type.Number({ minimum: 0 }),
  desiredNodes: Type.Integer({ minimum: 1 }),
  items: Type.Array(NodeLoadAnswer),
  dispatchers: Type.Object({ factor: Type.Number({ minimum: 0 }), desired: Type.Integer({ minimum: 1 }) }),
});

/** `GET /v1/load` → load factors of the fleet, its nodes and its dispatchers, and how many of them the load needs. */
export function addLoad(app: FastifyInstance, context: PrivateApiContext): void {
  app.get(
    "/v1/load",
    {
      config: { access: "read" },
      schema: {
        summary: "Load factors, and how many nodes the load needs",
        description:
          "A factor of 1.0 is at target. `desiredNodes` has room for one lost node, and is never 0. `dispatchers.desired` is at least 1.",
        tags: ["fleet"],
        response: { 200: Load },
      },
    },
    async () => {
      const [nodes, loads] = await Promise.all([context.nodeRegistry.nodes(), context.dispatcherRegistry.loads()]);
      const { factor, desired } = dispatchersLoad(loads);
      const { mean, max, ...counts } = fleetLoad(nodes);
      return {
        ...counts,
        mean: thousandths(mean),
        max: thousandths(max),
        items: nodes.map(toLoadAnswer),
        dispatchers: { factor: thousandths(factor), desired },
      };
    },
  );
}
