import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { objectText } from "../../shared/json/json-text.ts";
import { parseJson } from "../../shared/json/json.ts";
import type { DeadLetter } from "../../shared/queues/contract.ts";
import { jsonOf, parseHead } from "../../shared/queues/item-head.ts";
import type { PrivateApiContext } from "../node/context.ts";

const maxLimit = 1_000;
const Query = Type.Object({
  limit: Type.Optional(Type.String({ pattern: "^[1-9]\\d{0,3}$", description: `At most ${maxLimit}; 100 without it` })),
  after: Type.Optional(Type.String({ description: "`next` of the page before" })),
});

/** `GET /v1/dead-letters?limit&after` → `{ items, next? }`, oldest first. */
export function addListDeadLetters(app: FastifyInstance, { queues }: PrivateApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>(
    "/v1/dead-letters",
    {
      config: { access: "read" },
      schema: { summary: "Items that failed", tags: ["queues"], querystring: Query },
    },
    async ({ query: { limit: given = "100", after } }, reply) => {
      const limit = Math.min(maxLimit, Number(given));
      const letters = await queues.deadLetters({ limit: limit + 1, ...(after !== undefined && { after }) });
      const page = letters.slice(0, limit);
      const next = letters.length > limit ? page.at(-1)?.id : undefined;
      const items = `[${page.map(letterText).join(",")}]`;
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
