import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointViewCall } from "./endpoint-call.ts";
import { ChannelOffset } from "./limits.ts";

const maxOffsets = 1_000;
/** Brackets, commas and colons: eight for each offset with its time, and some for the rest. */
const maxStructure = 8 * maxOffsets + 64;
const Body = Type.Object(
  {
    after: Type.Union(
      [Type.String({ minLength: 1, maxLength: 8_192 }), Type.Array(ChannelOffset, { maxItems: maxOffsets })],
      { description: "The last change that another system has sent: a cursor, or offsets of channels" },
    ),
    others: Type.Optional(
      Type.Enum(["now", "ledger"], {
        description:
          "Channels that `after` does not list begin with what is published from now on, which is the default, or with the ledger",
      }),
    ),
  },
  { additionalProperties: false },
);

/** `POST /v1/endpoints/{id}/go-live { after, others? }` → the endpoint, live: its first delivery is the change after. */
export function addGoLiveEndpoint(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  const call = endpointViewCall("Make a shadow send from here on", { body: Body });
  app.post<{ Params: EndpointPath; Body: Static<typeof Body> }>(
    "/v1/endpoints/:id/go-live",
    { ...call, config: { ...call.config, maxStructure } },
    async ({ params: { id }, body: { after, others = "now" } }) => {
      const { endpoint } = await readEndpoint(endpoints.store, id);
      // First, so that old failures do not disable it again.
      if (endpoint.mode === "shadow") await endpoints.attempts.forgive(id);
      return endpoints.view(await endpoints.moves.goLive(id, after, others));
    },
  );
}
