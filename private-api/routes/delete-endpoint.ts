import type { FastifyInstance } from "fastify";
import { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";

/** `DELETE /v1/endpoints/{id}` → 204; what waits for it is dropped. */
export function addDeleteEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.delete<{ Params: EndpointPath }>(
    "/v1/endpoints/:id",
    {
      config: { access: "endpoints" },
      schema: { summary: "Delete an endpoint", tags: ["endpoints"], params: EndpointPath },
    },
    async ({ params: { id } }, reply) => {
      await endpoints.remove(id);
      return reply.code(204).send();
    },
  );
}
