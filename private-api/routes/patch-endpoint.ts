import type { FastifyInstance } from "fastify";
import { changeEndpoint } from "../endpoints/change-endpoint.ts";
import { EndpointAnswer, EndpointPatch, EndpointPath, patched } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointBodyBytes } from "./limits.ts";

/** `PATCH /v1/endpoints/{id}` the members to change → the endpoint. */
export function addPatchEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.patch<{ Params: EndpointPath; Body: EndpointPatch }>(
    "/v1/endpoints/:id",
    {
      bodyLimit: endpointBodyBytes,
      config: { access: "endpoints" },
      schema: {
        summary: "Change an endpoint",
        tags: ["endpoints"],
        params: EndpointPath,
        body: EndpointPatch,
        response: { 200: EndpointAnswer },
      },
      serializerCompiler: () => JSON.stringify,
    },
    async ({ params: { id }, body }) => {
      const stored = await changeEndpoint(endpoints.store, id, ({ endpoint }) =>
        patched(endpoint, body, endpoints.addresses),
      );
      return endpoints.view(stored);
    },
  );
}
