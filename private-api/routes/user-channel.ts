import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { channelPattern } from "../../shared/protocol/grammar.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { identityOf, type UserRoute, userSchema } from "./user-identity.ts";

const Body = Type.Object({ channel: Type.String({ pattern: channelPattern.source }) }, { additionalProperties: false });

/**
 * `POST /v1/users/{user}/subscribe` and `…/unsubscribe` → 202: concerns the sessions that are connected, on all nodes.
 * Unsubscribing also withdraws the user's grants for the channel.
 */
export function addUserChannel(
  app: FastifyInstance,
  context: PrivateApiContext,
  kind: "subscribe" | "unsubscribe",
): void {
  const summary = kind === "subscribe" ? "Subscribe a user to a channel" : "End a user's subscriptions to a channel";
  app.post<UserRoute & { Body: { channel: string } }>(
    `/v1/users/:user/${kind}`,
    {
      config: { access: "users" },
      schema: { summary, ...userSchema, body: Body },
    },
    async (request, reply) => {
      const user = identityOf(request);
      const { channel } = request.body;
      if (kind === "unsubscribe") {
        const at = await context.sessionStore.revoke(user, { kind: "grant", channel });
        await context.broker.sendToUser(user, { kind, channel, at });
      } else await context.broker.sendToUser(user, { kind, channel });
      return reply.code(202).send({});
    },
  );
}
