import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { readPage, textWithPublications } from "../../shared/channels/history-page.ts";
import { maxHistoryLimit } from "../../shared/protocol/limits.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { ChannelPath } from "./channel-path.ts";

const Query = Type.Object(
  {
    epoch: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: "Exclusive; absent: from the oldest publication in history",
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: maxHistoryLimit })),
  },
  { additionalProperties: false },
);

/** `GET /v1/channels/{channel}/history` → `{ position, publications }`; 409 `epoch_changed`, `history_trimmed`. */
export function addChannelHistory(app: FastifyInstance, context: PrivateApiContext): void {
  app.get<{ Params: ChannelPath; Querystring: { epoch?: string; after?: number; limit?: number } }>(
    "/v1/channels/:channel/history",
    {
      config: { access: "read" },
      schema: { summary: "Read a channel's history", tags: ["channels"], params: ChannelPath, querystring: Query },
    },
    async (request, reply) => {
      const { channel } = request.params;
      const retention = context.currentRules.rules.namespace(channel);
      const { position, publications } = await readPage(context.broker, { channel, retention, ...request.query });
      return reply.type("application/json; charset=utf-8").send(textWithPublications({ position }, publications));
    },
  );
}
