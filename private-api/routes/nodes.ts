import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { thousandths } from "../../shared/nodes/load-answer.ts";
import type { FleetNode } from "../../shared/nodes/contract.ts";
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
  admissionsPerSecond: Type.Number({ minimum: 0, description: "Connections that it may let in each second" }),
  drain: Type.Optional(
    Type.Object({
      startedAt: Type.Integer({ description: "Unix ms" }),
      endedAt: Type.Optional(Type.Integer({ description: "Unix ms" })),
      sessions: count,
      moved: count,
      closed: count,
      forced: count,
      lost: count,
      left: count,
    }),
  ),
});

const NodePath = Type.Object({ node: Type.String({ minLength: 1 }) });

/** `GET /v1/nodes` → who there is; `POST /v1/nodes/{node}/drain` → 202: each node of that name hears it with its next report. */
export function addNodes(app: FastifyInstance, context: PrivateApiContext): void {
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
    async () => ({ nodes: (await context.nodeRegistry.nodes()).map(shown) }),
  );

  app.post<{ Params: Static<typeof NodePath> }>(
    "/v1/nodes/:node/drain",
    {
      config: { access: "operate" },
      schema: { summary: "Send the sessions of a node elsewhere", tags: ["fleet"], params: NodePath },
    },
    async (request, reply) => {
      const { node } = request.params;
      const told = await context.nodeRegistry.orderDrain(node);
      if (told === 0) throw new TidegateError("not_found", "no node is called so");
      context.logger.info({ node, told }, "told to drain");
      return reply.code(202).send({});
    },
  );
}

function shown(known: FleetNode): Static<typeof Node> {
  const { node, instance, state, url, startedAt, connections, maxConnections, factor, sharePerSecond, drain } = known;
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
