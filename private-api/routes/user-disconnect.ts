import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { PrivateApiContext } from "../context.ts";
import { UserPath } from "./user-path.ts";

const Body = Type.Object(
  {
    reason: Type.Optional(Type.String({ maxLength: 500 })),
    reconnect: Type.Optional(Type.Boolean({ description: "May the clients come back? Default: false" })),
  },
  { additionalProperties: false },
);

/** `POST /v1/users/{user}/disconnect` → 202: closes every session of the user, on all nodes. */
export function addUserDisconnect(app: FastifyInstance, context: PrivateApiContext): void {
  const requireScope = context.requireScope("users");
  app.register(async (scope) => {
    const parse = scope.getDefaultJsonParser("ignore", "ignore");
    scope.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
      if (body === "") done(null, {});
      else void parse(request, body as string, done);
    });
    scope.post<{ Params: UserPath; Body: { reason?: string; reconnect?: boolean } }>(
      "/v1/users/:user/disconnect",
      {
        preValidation: async (request, reply) => {
          await requireScope(request, reply);
          request.body ??= {};
        },
        schema: { summary: "Disconnect a user", tags: ["users"], params: UserPath, body: Body },
      },
      async (request, reply) => {
        const { reason = "disconnected by the application", reconnect = false } = request.body;
        await context.broker.sendToUser(request.params.user, { kind: "disconnect", reason, reconnect });
        return reply.code(202).send({});
      },
    );
  });
}
