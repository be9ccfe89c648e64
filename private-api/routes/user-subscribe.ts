import type { FastifyInstance } from "fastify";
import type { PrivateApiContext } from "../node/context.ts";
import { ChannelBody } from "./channel-path.ts";
import { identityOf, type UserRoute, userCommandSchema } from "./user-identity.ts";

/** `POST /v1/users/{user}/subscribe` → 202: subscribes the user's connected sessions on all nodes to a channel. */
export function addUserSubscribe(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<UserRoute & { Body: ChannelBody }>(
    "/v1/users/:user/subscribe",
    {
      config: { access: "users" },
      schema: { summary: "Subscribe a user to a channel", ...userCommandSchema, body: ChannelBody },
    },
    async (request, reply) => {
      const { channel } = request.body;
      await context.broker.sendToUser(identityOf(request), { kind: "subscribe", channel });
      return reply.code(202).send({});
    },
  );
}
