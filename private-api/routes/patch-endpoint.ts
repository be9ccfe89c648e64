import type { FastifyInstance } from "fastify";
import { changeEndpoint } from "../endpoints/change-endpoint.ts";
import { EndpointPatch, type EndpointPath, patched } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";

/** `PATCH /v1/endpoints/{id}` the members to change → the endpoint. */
export function addPatchEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.patch<{ Params: EndpointPath; Body: EndpointPatch }>(
    "/v1/endpoints/:id",
    endpointViewCall("Change an endpoint", { body: EndpointPatch }),
    async ({ params: { id }, body }) => {
      const stored = await changeEndpoint(endpoints.store, id, ({ endpoint }) =>
        patched(endpoint, body, endpoints.addresses),
      );
      return endpoints.view(stored);
    },
  );
}
