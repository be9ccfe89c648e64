import type { FastifyInstance } from "fastify";
import type { PrivateApiContext } from "../node/context.ts";
import { ChannelBody } from "./channel-path.ts";
import { identityOf, type UserRoute, userCommandSchema } from "./user-identity.ts";

/**
 * `POST /v1/users/{user}/unsubscribe` → 202: withdraws the user's grants for a channel, and ends the subscriptions of the
 * user's connected sessions on all nodes.
 */
export function addUserUnsubscribe(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<UserRoute & { Body: ChannelBody }>(
    "/v1/users/:user/unsubscribe",
    {
      config: { access: "users" },
      schema: { summary: "End a user's subscriptions to a channel", ...userCommandSchema, body: ChannelBody },
    },
    async (request, reply) => {
      const user = identityOf(request);
      const { channel } = request.body;
      const at = await context.sessionStore.revoke(user, { kind: "grant", channel });
      await context.broker.sendToUser(user, { kind: "unsubscribe", channel, at });
      return reply.code(202).send({});
    },
  );
}
