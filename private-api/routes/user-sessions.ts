import type { FastifyInstance } from "fastify";
import type { PrivateApiContext } from "../node/context.ts";
import { identityOf, type UserRoute, userSchema } from "./user-identity.ts";

/** `GET /v1/users/{user}/sessions` → `{ sessions: [{ sessionId, node, connectedAt }] }` on all nodes; `connectedAt` in Unix ms. */
export function addUserSessions(app: FastifyInstance, context: PrivateApiContext): void {
  app.get<UserRoute>(
    "/v1/users/:user/sessions",
    {
      config: { access: "read" },
      schema: { summary: "List a user's sessions", ...userSchema },
    },
    async (request) => ({ sessions: await context.sessionStore.sessionsOf(identityOf(request)) }),
  );
}
