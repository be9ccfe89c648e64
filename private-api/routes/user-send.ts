import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { JsonText } from "../../shared/json/json-text.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { maxPublishBodyBytes } from "./limits.ts";
import { checkData } from "./publish.ts";
import { identityOf, type UserRoute, userCommandSchema } from "./user-identity.ts";

const Body = Type.Object({ event: Type.String(), data: Type.Unknown() }, { additionalProperties: false });

/** `POST /v1/users/{user}/send` → 202: delivers to every session of the user, on all nodes, at most once. */
export function addUserSend(app: FastifyInstance, context: PrivateApiContext): void {
  app.post<UserRoute & { Body: { event: string; data: JsonText } }>(
    "/v1/users/:user/send",
    {
      bodyLimit: maxPublishBodyBytes,
      config: { access: "users", passesData: true },
      schema: { summary: "Send a message to a user", ...userCommandSchema, body: Body },
    },
    async (request, reply) => {
      const { event, data } = request.body;
      checkData(event, data);
      await context.broker.sendToUser(identityOf(request), { kind: "send", event, data: data.text });
      return reply.code(202).send({});
    },
  );
}
