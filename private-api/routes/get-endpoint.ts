import type { FastifyInstance } from "fastify";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";

/** `GET /v1/endpoints/{id}` → the endpoint without its secrets, and how it does. */
export function addGetEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.get<{ Params: EndpointPath }>(
    "/v1/endpoints/:id",
    endpointViewCall("Read an endpoint"),
    async ({ params: { id } }) => endpoints.view(await readEndpoint(endpoints.store, id)),
  );
}
