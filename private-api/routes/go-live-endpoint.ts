import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";
import { ChannelOffset } from "./limits.ts";

const Body = Type.Object(
  {
    after: Type.Union(
      [Type.String({ minLength: 1, maxLength: 8_192 }), Type.Array(ChannelOffset, { minItems: 1, maxItems: 200 })],
      { description: "The last change that another system has sent: a cursor, or offsets of channels" },
    ),
  },
  { additionalProperties: false },
);

/** `POST /v1/endpoints/{id}/go-live { after }` → the endpoint, live: its first delivery is the change after. */
export function addGoLiveEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath; Body: Static<typeof Body> }>(
    "/v1/endpoints/:id/go-live",
    endpointViewCall("Make a shadow send from here on", { body: Body }),
    async ({ params: { id }, body: { after } }) => endpoints.view(await endpoints.moves.goLive(id, after)),
  );
}
