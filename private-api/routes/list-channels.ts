import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { PrivateApiContext } from "../node/context.ts";
import { pageAnswer, type PageQuery, pageQuery, questionOf, toAnswer } from "./fleet-page.ts";

const Channel = Type.Object({
  channel: Type.String(),
  sessions: Type.Integer({ minimum: 1, description: "That follow it, on all nodes" }),
  nodes: Type.Integer({ minimum: 1, description: "With such sessions" }),
});

/** `GET /v1/channels?limit&after` → `{ items, next?, missing? }`: channels with followers, by name. `after` may be any name. */
export function addListChannels(app: FastifyInstance, { fleetLists }: PrivateApiContext): void {
  app.get<{ Querystring: PageQuery }>(
    "/v1/channels",
    {
      config: { access: "read" },
      schema: {
        summary: "The channels with followers",
        tags: ["channels"],
        querystring: pageQuery,
        response: { 200: pageAnswer(Channel) },
      },
    },
    async ({ query }) => {
      const page = await fleetLists.page(questionOf("channels", query));
      return page && toAnswer(page, ({ id, count, nodes }) => ({ channel: id, sessions: count, nodes }));
    },
  );
}
