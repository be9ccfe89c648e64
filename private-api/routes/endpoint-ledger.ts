import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

/** `GET /v1/endpoints/{id}/ledger` → NDJSON of what is sent, or in shadow mode would be, as far as the log has it. */
export function addEndpointLedger(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.get<{ Params: EndpointPath }>(
    "/v1/endpoints/:id/ledger",
    endpointCall("What an endpoint gets, line by line", {
      description:
        "In order per channel. A line `{ gap: { from, to } }` stands for changes that the log no longer has.",
      produces: ["application/x-ndjson"],
    }),
    async ({ params: { id } }, reply) => {
      const stored = await readEndpoint(endpoints.store, id);
      return reply.type("application/x-ndjson").send(Readable.from(endpoints.ledger(stored)));
    },
  );
}
