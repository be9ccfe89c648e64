import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { PrivateApiContext } from "../node/context.ts";
import { type NodeRoute, nodePath, orderNode } from "./node-path.ts";

/** `POST /v1/nodes/{node}/undrain` → 202: every node of that name calls its drain off with its next report. */
export function addUndrainNode(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<NodeRoute>(
    "/v1/nodes/:node/undrain",
    {
      config: { access: "operate" },
      schema: {
        summary: "Call the drain of a node off: it takes sessions again",
        tags: ["fleet"],
        params: nodePath,
        response: { 202: Type.Object({}) },
      },
    },
    async (request, reply) => {
      await orderNode(context, request.params.node, "undrain");
      return reply.code(202).send({});
    },
  );
}
