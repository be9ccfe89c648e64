import type { FastifyInstance } from "fastify";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { changeEndpoint, readEndpoint } from "../endpoints/change-endpoint.ts";
import { EndpointPatch, type EndpointPath, patched } from "../endpoints/endpoint-form.ts";
import { asStopped } from "../endpoints/stop-endpoint.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { assertEndpointBody, endpointViewCall } from "./endpoint-call.ts";

/** `PATCH /v1/endpoints/{id}` the members to change → the endpoint. One that becomes a shadow stops first. */
export function addPatchEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.patch<{ Params: EndpointPath; Body: EndpointPatch }>(
    "/v1/endpoints/:id",
    { ...endpointViewCall("Change an endpoint", { body: EndpointPatch }), attachValidation: true },
    async (request) => {
      assertEndpointBody(request, EndpointPatch, endpoints.addresses);
      const {
        params: { id },
        body,
      } = request;
      const edit = ({ endpoint }: StoredEndpoint): Endpoint => patched(endpoint, body, endpoints.addresses);
      // A change that is not valid does nothing.
      edit(await readEndpoint(endpoints.store, id));
      // First, so that old failures do not disable it again.
      if (body.mode === "live" || body.url !== undefined) await endpoints.attempts.forgive(id);
      if (body.mode !== "shadow") return endpoints.view(await changeEndpoint(endpoints.store, id, edit));
      await endpoints.stops.toShadow(id, { mayBeHalted: true });
      const stored = await changeEndpoint(endpoints.store, id, (stopped) => edit(asStopped(stopped)));
      return endpoints.view(stored);
    },
  );
}
