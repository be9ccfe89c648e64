import type { FastifyInstance } from "fastify";
import { connectHookGrants } from "../../shared/sessions/contract.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { identityOf, type UserRoute, userCommandSchema } from "./user-identity.ts";

/** `POST /v1/users/{user}/refresh` → 202: checks the permissions of the user's connected sessions on all nodes again. */
export function addUserRefresh(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<UserRoute>(
    "/v1/users/:user/refresh",
    {
      config: { access: "users" },
      schema: {
        summary: "Ask the connect hook again for a user's sessions, and clients for newer tokens",
        ...userCommandSchema,
      },
    },
    async (request, reply) => {
      const user = identityOf(request);
      // For sessions that are about to begin or to resume.
      await context.sessionStore.revoke(user, { kind: "grant", channel: connectHookGrants });
      await context.broker.sendToUser(user, { kind: "refresh" });
      return reply.code(202).send({});
    },
  );
}
