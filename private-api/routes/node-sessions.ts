import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { PrivateApiContext } from "../node/context.ts";
import { pageAnswer, type PageQuery, pageQuery, questionOf, toAnswer } from "./fleet-page.ts";
import { type NodeRoute, nodePath, noSuchNode } from "./node-path.ts";

const Session = Type.Object({
  sessionId: Type.String(),
  user: Type.String(),
  tenant: Type.Optional(Type.String()),
  connectedAt: Type.Integer({ description: "When its connection began, Unix ms" }),
  channels: Type.Integer({ minimum: 0, description: "That it follows" }),
});

/** `GET /v1/nodes/{node}/sessions?limit&after` → `{ items, next?, missing? }`: the sessions of the nodes of that name, by id. */
export function addNodeSessions(app: FastifyInstance, { fleetLists }: PrivateApiContext): void {
  app.get<NodeRoute & { Querystring: PageQuery }>(
    "/v1/nodes/:node/sessions",
    {
      config: { access: "read" },
      schema: {
        summary: "The sessions of a node",
        tags: ["fleet"],
        params: nodePath,
        querystring: pageQuery,
        response: { 200: pageAnswer(Session) },
      },
    },
    async ({ params, query }) => {
      const page = await fleetLists.page(questionOf("sessions", query), params.node);
      if (!page) throw noSuchNode();
      return toAnswer(page, ({ id, user = "", tenant, connectedAt = 0, count }) => ({
        sessionId: id,
        user,
        ...(tenant !== undefined && { tenant }),
        connectedAt,
        channels: count,
      }));
    },
  );
}
