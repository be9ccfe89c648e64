import type { FastifyInstance } from "fastify";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import { EndpointAnswer, EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";

/** `GET /v1/endpoints/{id}` → the endpoint without its secrets, and how it does. */
export function addGetEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.get<{ Params: EndpointPath }>(
    "/v1/endpoints/:id",
    {
      config: { access: "endpoints" },
      schema: {
        summary: "Read an endpoint",
        tags: ["endpoints"],
        params: EndpointPath,
        response: { 200: EndpointAnswer },
      },
      serializerCompiler: () => JSON.stringify,
    },
    async ({ params: { id } }) => endpoints.view(await readEndpoint(endpoints.store, id)),
  );
}
