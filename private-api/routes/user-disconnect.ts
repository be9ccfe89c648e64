import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { wellFormedPattern } from "../../shared/protocol/grammar.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { identityOf, type UserRoute, userCommandSchema } from "./user-identity.ts";

const Body = Type.Object(
  {
    reason: Type.Optional(Type.String({ maxLength: 500, pattern: wellFormedPattern.source })),
    reconnect: Type.Optional(
      Type.Boolean({ description: "Whether the clients may reconnect. Default: false, and they cannot resume" }),
    ),
    sessionId: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 64,
        pattern: wellFormedPattern.source,
        description: "Only this session",
      }),
    ),
  },
  { additionalProperties: false, description: "May be left out" },
);

/** Enough for three members. */
const maxStructure = 64;

/** `POST /v1/users/{user}/disconnect` → 202: ends every session of the user, or one of them, on all nodes. */
export function addUserDisconnect(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<UserRoute & { Body: Static<typeof Body> }>(
    "/v1/users/:user/disconnect",
    {
      config: { access: "users", maxStructure },
      preValidation: async (request) => {
        request.body ??= {};
      },
      schema: { summary: "Disconnect a user", ...userCommandSchema, body: Body },
    },
    async (request, reply) => {
      const user = identityOf(request);
      const { reason = "disconnected by the application", reconnect = false, sessionId } = request.body;
      if (!reconnect) {
        await context.sessionStore.revoke(user, sessionId ? { kind: "session", sessionId } : { kind: "user" });
      }
      const only = sessionId === undefined ? {} : { sessionId };
      await context.broker.sendToUser(user, { kind: "disconnect", reason, reconnect, ...only });
      return reply.code(202).send({});
    },
  );
}
