import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { thousandths } from "../../shared/nodes/load-answer.ts";
import { DrainReport, type FleetNode } from "../../shared/nodes/contract.ts";
import type { PrivateApiContext } from "../node/context.ts";

const count = Type.Integer({ minimum: 0 });

const Node = Type.Object({
  node: Type.String(),
  instance: Type.String(),
  state: Type.Enum(["ready", "draining"]),
  url: Type.Optional(Type.String()),
  startedAt: Type.Integer({ description: "Unix ms" }),
  connections: count,
  maxConnections: count,
  factor: Type.Number({ minimum: 0 }),
  admissionsPerSecond: Type.Number({ minimum: 0, description: "Connections that it may admit each second" }),
  drain: Type.Optional(DrainReport),
});

/** `GET /v1/nodes` → `{ nodes }`: every node of the fleet, with the report of its drain. */
export function addListNodes(app: FastifyInstance, context: PrivateApiContext): void {
  app.get(
    "/v1/nodes",
    {
      config: { access: "read" },
      schema: {
        summary: "The nodes of the fleet",
        tags: ["fleet"],
        response: { 200: Type.Object({ nodes: Type.Array(Node) }) },
      },
    },
    async () => ({ nodes: (await context.nodeRegistry.nodes()).map(toListed) }),
  );
}

function toListed(listed: FleetNode): Static<typeof Node> {
  const { node, instance, state, url, startedAt, connections, maxConnections, factor, sharePerSecond, drain } = listed;
  return {
    node,
    instance,
    state,
    ...(url !== undefined && { url }),
    startedAt,
    connections,
    maxConnections,
    factor: thousandths(factor),
    admissionsPerSecond: sharePerSecond,
    ...(drain && { drain }),
  };
}
