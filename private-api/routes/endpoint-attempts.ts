import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { keptAttempts } from "../../shared/endpoints/contract.ts";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import { attemptsDescription, type EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

const Query = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: keptAttempts })),
    after: Type.Optional(Type.String({ pattern: "^\\d{1,19}-\\d{1,19}$", description: "`next` of the page before" })),
  },
  { additionalProperties: false },
);
const Answer = Type.Object({
  items: Type.Array(
    Type.Object({
      at: Type.Integer({ description: "Unix ms" }),
      changeId: Type.String({ description: "`webhook-id`" }),
      attempt: Type.Integer(),
      status: Type.Optional(Type.Integer()),
      ms: Type.Integer(),
      error: Type.Optional(Type.String()),
      answer: Type.String({ description: "Its first KiB; empty where there was none" }),
    }),
  ),
  next: Type.Optional(Type.String({ description: "Absent on the last page" })),
});

/** `GET /v1/endpoints/{id}/attempts?limit&after` → `{ items, next? }`, newest first. */
export function addEndpointAttempts(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.get<{ Params: EndpointPath; Querystring: Static<typeof Query> }>(
    "/v1/endpoints/:id/attempts",
    endpointCall("List attempts at deliveries", {
      querystring: Query,
      description: attemptsDescription,
      response: { 200: Answer },
    }),
    async ({ params: { id }, query: { limit = keptAttempts, after } }) => {
      await readEndpoint(endpoints.store, id);
      const found = await endpoints.attempts.attempts(id, {
        limit: limit + 1,
        ...(after !== undefined && { after }),
      });
      const page = found.slice(0, limit);
      const next = found.length > limit ? page.at(-1)?.id : undefined;
      return {
        items: page.map(({ id: _id, answer = "", ...attempt }) => ({ ...attempt, answer })),
        ...(next !== undefined && { next }),
      };
    },
  );
}
