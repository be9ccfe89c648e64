import type { FastifyInstance } from "fastify";
import { changeEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";

/** `POST /v1/endpoints/{id}/pause` → the endpoint: it is sent nothing, and keeps its place in the log. */
export function addPauseEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath }>(
    "/v1/endpoints/:id/pause",
    endpointViewCall("Pause an endpoint"),
    async ({ params: { id } }) => {
      const stored = await changeEndpoint(endpoints.store, id, ({ endpoint }) =>
        endpoint.halted === undefined ? { ...endpoint, halted: "paused" } : undefined,
      );
      return endpoints.view(stored);
    },
  );
}
