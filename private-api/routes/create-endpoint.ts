import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { maxEndpoints } from "../../shared/endpoints/endpoint.ts";
import { newSecret } from "../../shared/endpoints/secrets.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { EndpointAnswer, endpointOf, NewEndpoint } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { assertEndpointBody } from "./endpoint-call.ts";
import { endpointBodyBytes } from "./limits.ts";

const Answer = Type.Intersect([EndpointAnswer, Type.Object({ secrets: Type.Array(Type.String()) })]);

/** `POST /v1/endpoints` the endpoint → 201 with its `id` and `secrets`: no other call shows them. */
export function addCreateEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Body: NewEndpoint }>(
    "/v1/endpoints",
    {
      bodyLimit: endpointBodyBytes,
      attachValidation: true,
      config: { access: "endpoints" },
      schema: {
        summary: "Create an endpoint: it gets changes from now on",
        tags: ["endpoints"],
        body: NewEndpoint,
        response: { 201: Answer },
      },
      serializerCompiler: () => JSON.stringify,
    },
    async (request, reply) => {
      assertEndpointBody(request, NewEndpoint, endpoints.addresses);
      const { body } = request;
      const secrets = body.secrets ?? [newSecret()];
      const stored = await endpoints.store.create(endpointOf(endpoints.newId(), body, secrets, endpoints.addresses));
      if (!stored) throw new TidegateError("rate_limited", `there are ${maxEndpoints} endpoints already`);
      return reply.code(201).send({ ...(await endpoints.view(stored)), secrets });
    },
  );
}
