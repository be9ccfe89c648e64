import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { PrivateApiContext } from "../node/context.ts";
import { type NodeRoute, nodePath, orderNode } from "./node-path.ts";

/** `POST /v1/nodes/{node}/drain` → 202: every node of that name starts to drain with its next report. */
export function addDrainNode(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<NodeRoute>(
    "/v1/nodes/:node/drain",
    {
      config: { access: "operate" },
      schema: {
        summary: "Move the sessions of a node to other nodes",
        tags: ["fleet"],
        params: nodePath,
        response: { 202: Type.Object({}) },
      },
    },
    async (request, reply) => {
      await orderNode(context, request.params.node, "drain");
      return reply.code(202).send({});
    },
  );
}
