import type { FastifyInstance } from "fastify";
import { changeEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";

/** `POST /v1/endpoints/{id}/resume` → the endpoint: a paused, disabled or stopping one continues where it stopped. */
export function addResumeEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath }>(
    "/v1/endpoints/:id/resume",
    endpointViewCall("Resume an endpoint"),
    async ({ params: { id } }) => {
      // First, so that old failures do not disable it again.
      await endpoints.attempts.forgive(id);
      const stored = await changeEndpoint(endpoints.store, id, ({ endpoint }) => {
        const { halted, stopping, reason: _reason, ...others } = endpoint;
        return halted === undefined && stopping === undefined ? undefined : others;
      });
      return endpoints.view(stored);
    },
  );
}
