import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { paddedNumber } from "../../shared/queues/keys.ts";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";

const testEvent = "tidegate.test";
const Answer = Type.Object({
  delivered: Type.Boolean(),
  id: Type.String({ description: "`webhook-id`" }),
  status: Type.Optional(Type.Integer()),
  ms: Type.Integer(),
  error: Type.Optional(Type.String()),
});

/** `POST /v1/endpoints/{id}/test` → `{ delivered, id, status?, ms, error? }`: one request at once, whatever the endpoint's state. */
export function addTestEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath }>(
    "/v1/endpoints/:id/test",
    {
      config: { access: "endpoints" },
      schema: {
        summary: `Send an endpoint an event ${testEvent}`,
        tags: ["endpoints"],
        params: EndpointPath,
        response: { 200: Answer },
      },
    },
    async ({ params: { id } }) => {
      const stored = await readEndpoint(endpoints.store, id);
      const webhookId = `test_${randomUUID()}`;
      const { result, ms, error } = await endpoints.deliveries.attempt(stored, {
        id: webhookId,
        body: JSON.stringify({ type: testEvent, timestamp: new Date().toISOString(), data: {} }),
        number: 1,
        headers: { "tidegate-key": testEvent, "tidegate-sequence": paddedNumber(0) },
      });
      return {
        delivered: error === undefined,
        id: webhookId,
        ...("status" in result && { status: result.status }),
        ms,
        ...(error !== undefined && { error }),
      };
    },
  );
}
