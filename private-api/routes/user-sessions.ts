import type { FastifyInstance } from "fastify";
import type { PrivateApiContext } from "../context.ts";
import { UserPath } from "./user-path.ts";

/** `GET /v1/users/{user}/sessions` → `{ sessions: [{ sessionId, node, connectedAt }] }`, of all nodes; Unix ms. */
export function addUserSessions(app: FastifyInstance, context: PrivateApiContext): void {
  app.get<{ Params: UserPath }>(
    "/v1/users/:user/sessions",
    {
      preValidation: context.requireScope("read"),
      schema: { summary: "List a user's sessions", tags: ["users"], params: UserPath },
    },
    async (request) => ({ sessions: await context.sessionStore.sessionsOf(request.params.user) }),
  );
}
