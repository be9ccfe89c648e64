import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { stateOf } from "../../shared/endpoints/endpoint.ts";
import { EndpointAnswer, rolloutPoint } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";

const defaultLimit = 100;
const Query = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, description: `${defaultLimit} without it` })),
    after: Type.Optional(Type.String({ maxLength: 64, description: "`next` of the page before" })),
    state: Type.Optional(EndpointAnswer.properties.state),
    percent: Type.Optional(
      Type.Number({ minimum: 0, maximum: 100, description: "The first so many percent: those with a lower `point`" }),
    ),
  },
  { additionalProperties: false },
);
const Answer = Type.Object({
  items: Type.Array(EndpointAnswer),
  next: Type.Optional(Type.String({ description: "Absent on the last page" })),
});

/** `GET /v1/endpoints?limit&after&state&percent` → `{ items, next? }`, by id. */
export function addListEndpoints(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>(
    "/v1/endpoints",
    {
      config: { access: "endpoints" },
      schema: { summary: "List the endpoints", tags: ["endpoints"], querystring: Query, response: { 200: Answer } },
      serializerCompiler: () => JSON.stringify,
    },
    async ({ query: { limit = defaultLimit, after = "", state, percent } }) => {
      const found = await endpoints.list({
        ...{ limit: limit + 1, after },
        accepts: (endpoint) =>
          (state === undefined || stateOf(endpoint) === state) &&
          (percent === undefined || rolloutPoint(endpoint) < percent),
      });
      const page = found.slice(0, limit);
      const next = found.length > limit ? page.at(-1)?.endpoint.id : undefined;
      const items = await Promise.all(page.map(async (stored) => endpoints.view(stored)));
      return { items, ...(next !== undefined && { next }) };
    },
  );
}
