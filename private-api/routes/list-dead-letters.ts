import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { objectText } from "../../shared/json/json-text.ts";
import { parseJson } from "../../shared/json/json.ts";
import type { DeadLetter } from "../../shared/queues/contract.ts";
import { jsonOf, parseHead } from "../../shared/queues/item-head.ts";
import { parseDeadLetterId } from "../../shared/queues/dead-letter-places.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { PrivateApiContext } from "../node/context.ts";

const maxLimit = 1_000;
const defaultLimit = 100;
const Query = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: maxLimit, description: `${defaultLimit} without it` })),
    after: Type.Optional(Type.String({ description: "`next` of the page before, or the id of a dead letter" })),
  },
  { additionalProperties: false },
);
const Answer = Type.Object({
  items: Type.Array(
    Type.Object({
      id: Type.String(),
      key: Type.String(),
      tenant: Type.String(),
      class: Type.String(),
      event: Type.String(),
      service: Type.String(),
      attempts: Type.Integer(),
      lastError: Type.Object({
        code: Type.String(),
        status: Type.Optional(Type.Integer()),
        message: Type.String(),
      }),
      failedAt: Type.Integer({ description: "Unix ms" }),
      data: Type.Unknown({ description: "As its sender wrote it" }),
    }),
  ),
  next: Type.Optional(Type.String({ description: "Absent on the last page" })),
});

/** `GET /v1/dead-letters?limit&after` → `{ items, next? }`, oldest first. A page with large items ends early. */
export function addListDeadLetters(app: FastifyInstance, { queues }: PrivateApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>(
    "/v1/dead-letters",
    {
      config: { access: "read" },
      // The answer is text already: its schema describes it only.
      schema: { summary: "Items that failed", tags: ["queues"], querystring: Query, response: { 200: Answer } },
    },
    async ({ query: { limit = defaultLimit, after } }, reply) => {
      if (after !== undefined && !parseDeadLetterId(after)) {
        throw new TidegateError("invalid_request", "after: is no id of a dead letter");
      }
      const { letters, next } = await queues.deadLetters({ limit, ...(after !== undefined && { after }) });
      const items = `[${letters.map(letterText).join(",")}]`;
      const text = objectText(next === undefined ? {} : { next }, { items });
      return reply.type("application/json; charset=utf-8").send(text);
    },
  );
}

/** The data stays as its sender wrote it. */
function letterText({ id, queue, failedAt, failure, item }: DeadLetter): string {
  const { attempts, lastError } = (parseJson(failure) ?? {}) as { attempts?: number; lastError?: object };
  const event = parseHead(item.head)?.event;
  const { key, tenant, service } = queue;
  const members = { id, key, tenant, class: item.class, event, service, attempts, lastError, failedAt };
  return objectText(members, { data: jsonOf(item) });
}
