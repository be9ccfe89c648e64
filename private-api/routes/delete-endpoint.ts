import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

/** `DELETE /v1/endpoints/{id}` → 204; what waits for it is dropped. */
export function addDeleteEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.delete<{ Params: EndpointPath }>(
    "/v1/endpoints/:id",
    endpointCall("Delete an endpoint", { response: { 204: Type.Null() } }),
    async ({ params: { id } }, reply) => {
      await endpoints.remove(id);
      return reply.code(204).send();
    },
  );
}
