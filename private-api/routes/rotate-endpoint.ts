import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { newSecret, rotated } from "../../shared/endpoints/secrets.ts";
import { changeEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

const defaultSeconds = 86_400;
const Body = Type.Object(
  {
    expireAfterSeconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 30 * 86_400,
        description: `Until then the secrets before sign as well; ${defaultSeconds} without it`,
      }),
    ),
  },
  { additionalProperties: false, description: "May be left out" },
);
const Answer = Type.Object({ secrets: Type.Array(Type.String(), { description: "The new one first" }) });

/** `POST /v1/endpoints/{id}/rotate { expireAfterSeconds? }` → `{ secrets: [new, old…] }`. */
export function addRotateEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath; Body: Static<typeof Body> }>(
    "/v1/endpoints/:id/rotate",
    {
      ...endpointCall("Give an endpoint a new secret", { body: Body, response: { 200: Answer } }),
      preValidation: async (request) => {
        request.body ??= {};
      },
    },
    async ({ params: { id }, body }) => {
      const secret = newSecret();
      const nowMs = Date.now();
      const expiresAt = nowMs + (body.expireAfterSeconds ?? defaultSeconds) * 1_000;
      const { endpoint } = await changeEndpoint(endpoints.store, id, ({ endpoint }) => ({
        ...endpoint,
        secrets: rotated(endpoint.secrets, { secret, nowMs, expiresAt }),
      }));
      return { secrets: endpoint.secrets.map(({ secret }) => secret) };
    },
  );
}
