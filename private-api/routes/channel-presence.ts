import type { FastifyInstance } from "fastify";
import { readPresence } from "../../shared/sessions/read-presence.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { ChannelPath } from "./channel-path.ts";

/** `GET /v1/channels/{channel}/presence` → `{ members: [{ user, connections, info? }] }`, or `{ count }` of a large one. */
export function addChannelPresence(app: FastifyInstance, context: PrivateApiContext): void {
  app.get<{ Params: ChannelPath }>(
    "/v1/channels/:channel/presence",
    {
      config: { access: "read" },
      schema: { summary: "List the users in a channel", tags: ["channels"], params: ChannelPath },
    },
    async (request) => readPresence(context.sessionStore, request.params.channel, context.currentRules.rules),
  );
}
