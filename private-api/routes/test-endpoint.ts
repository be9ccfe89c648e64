import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { paddedNumber } from "../../shared/queues/keys.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { Endpoints } from "../endpoints/endpoints.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

const testEvent = "tidegate.test";
/** Of one process: neither circuits nor `maxInFlight` bound these requests. */
const maxUnderWay = 32;
const Answer = Type.Object({
  delivered: Type.Boolean(),
  id: Type.String({ description: "`webhook-id`" }),
  status: Type.Optional(Type.Integer()),
  ms: Type.Integer(),
  error: Type.Optional(Type.String()),
});

/** `POST /v1/endpoints/{id}/test` → `{ delivered, id, status?, ms, error? }`: one request at once, whatever the endpoint's state. */
export function addTestEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  let underWay = 0;
  app.post<{ Params: EndpointPath }>(
    "/v1/endpoints/:id/test",
    endpointCall(`Send an endpoint an event ${testEvent}`, { response: { 200: Answer } }),
    async ({ params: { id } }) => {
      const stored = await readEndpoint(endpoints.store, id);
      if (underWay >= maxUnderWay)
        throw new TidegateError("rate_limited", `${maxUnderWay} tests are under way already`);
      underWay++;
      try {
        return await sendTest(endpoints, stored);
      } finally {
        underWay--;
      }
    },
  );
}

async function sendTest(endpoints: Endpoints, stored: StoredEndpoint): Promise<Static<typeof Answer>> {
  const webhookId = `test_${randomUUID()}`;
  const { result, ms, error } = await endpoints.requests.attempt(stored, {
    id: webhookId,
    body: JSON.stringify({ type: testEvent, timestamp: new Date().toISOString(), data: {} }),
    ...{ key: testEvent, sequence: paddedNumber(0), attempt: 1 },
  });
  return {
    delivered: error === undefined,
    id: webhookId,
    ...("status" in result && { status: result.status }),
    ms,
    ...(error !== undefined && { error }),
  };
}
