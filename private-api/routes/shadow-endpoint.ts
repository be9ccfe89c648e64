import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { EndpointAnswer, type EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

const Answer = Type.Intersect([
  EndpointAnswer,
  Type.Object({
    after: Type.String({
      description: "A cursor of `GET /v1/changes`: what is before it was sent, what follows is not",
    }),
    sentUntil: Type.Integer({
      description:
        "Unix ms: everything that was published before was sent; `sentSeconds` of the ledger counts back from it",
    }),
  }),
]);

/** `POST /v1/endpoints/{id}/shadow` → the endpoint, a shadow, and the position after which it sent nothing. */
export function addShadowEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath }>(
    "/v1/endpoints/:id/shadow",
    {
      ...endpointCall("Stop sending at an exact position", {
        description: "Waits up to 20 s until what is queued is delivered. Of a shadow it answers the position again.",
        response: { 200: Answer },
      }),
      serializerCompiler: () => JSON.stringify,
    },
    async ({ params: { id } }) => {
      const stored = await endpoints.stops.toShadow(id);
      const [view, position] = await Promise.all([endpoints.view(stored), endpoints.stops.positionOf(stored)]);
      return { ...view, ...position };
    },
  );
}
