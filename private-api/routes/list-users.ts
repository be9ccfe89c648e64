import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { PrivateApiContext } from "../node/context.ts";
import { pageAnswer, type PageQuery, pageQuery, questionOf, toAnswer } from "./fleet-page.ts";

const User = Type.Object({
  user: Type.String(),
  tenant: Type.Optional(Type.String()),
  sessions: Type.Integer({ minimum: 1, description: "On all nodes" }),
});

/** `GET /v1/users?limit&after` → `{ items, next?, missing? }`: connected users, those without a tenant by name. `after` is opaque. */
export function addListUsers(app: FastifyInstance, { fleetLists }: PrivateApiContext): void {
  app.get<{ Querystring: PageQuery }>(
    "/v1/users",
    {
      config: { access: "read" },
      schema: {
        summary: "The connected users",
        tags: ["users"],
        querystring: pageQuery,
        response: { 200: pageAnswer(User) },
      },
    },
    async ({ query: { after, ...query } }) => {
      // The key of a user holds characters that no URL should.
      const key = after === undefined ? {} : { after: Buffer.from(after, "base64url").toString("utf8") };
      const page = await fleetLists.page(questionOf("users", { ...query, ...key }));
      if (!page) return page;
      const next = page.next === undefined ? undefined : Buffer.from(page.next, "utf8").toString("base64url");
      return toAnswer({ ...page, next }, ({ user = "", tenant, count }) => ({
        user,
        ...(tenant !== undefined && { tenant }),
        sessions: count,
      }));
    },
  );
}
