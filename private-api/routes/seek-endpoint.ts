import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { SeekTarget } from "../endpoints/move-endpoint.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";
import { ChannelOffset } from "./limits.ts";

const Body = Type.Object(
  {
    to: Type.Union(
      [
        Type.String({ minLength: 1, maxLength: 8_192 }),
        Type.Object(
          { time: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) },
          { additionalProperties: false },
        ),
        ChannelOffset,
      ],
      { description: "`start`, `end`, a cursor of `GET /v1/changes`, Unix ms, or the last change that is not sent" },
    ),
  },
  { additionalProperties: false },
);

/** `POST /v1/endpoints/{id}/seek { to }` → the endpoint, which gets everything from there on, also what it had. */
export function addSeekEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.post<{ Params: EndpointPath; Body: Static<typeof Body> }>(
    "/v1/endpoints/:id/seek",
    endpointViewCall("Move an endpoint in the change log", { body: Body }),
    async ({ params: { id }, body: { to } }) => endpoints.view(await endpoints.moves.seek(id, targetOf(to))),
  );
}

function targetOf(to: Static<typeof Body>["to"]): SeekTarget {
  if (typeof to !== "string" || to === "start" || to === "end") return to;
  return { cursor: to };
}
