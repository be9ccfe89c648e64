import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { wellFormedPattern } from "../../shared/protocol/grammar.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { DeadLetter } from "../../shared/queues/contract.ts";
import type { PrivateApiContext } from "../node/context.ts";

const Body = Type.Object(
  {
    key: Type.Optional(Type.String({ pattern: wellFormedPattern.source })),
    service: Type.Optional(Type.String({ pattern: wellFormedPattern.source })),
    all: Type.Optional(Type.Literal(true)),
  },
  { additionalProperties: false },
);
const pageSize = 1_000;

/** `POST /v1/dead-letters/retry { key? | service? | all: true }` → `{ retried }`: those that are there when the call begins. */
export function addRetryDeadLetters(app: FastifyInstance, { queues }: PrivateApiContext): void {
  app.post<{ Body: Static<typeof Body> }>(
    "/v1/dead-letters/retry",
    {
      config: { access: "operate" },
      schema: {
        summary: "Retry many items that failed",
        tags: ["queues"],
        body: Body,
        response: { 200: Type.Object({ retried: Type.Integer() }) },
      },
    },
    async ({ body: { key, service, all } }) => {
      if (key === undefined && service === undefined && !all) {
        throw new TidegateError("invalid_request", "give key, service, or all: true");
      }
      const matches = ({ queue }: DeadLetter): boolean =>
        (key ?? queue.key) === queue.key && (service ?? queue.service) === queue.service;
      // Those that fail again meanwhile come after these.
      let left = (await queues.depths()).deadLetters;
      let retried = 0;
      let after: string | undefined;
      while (left > 0) {
        const limit = Math.min(pageSize, left);
        const { letters, next } = await queues.deadLetters({ limit, ...(after !== undefined && { after }) });
        // In order, so that items of one key keep theirs.
        for (const letter of letters) if (matches(letter) && (await queues.retryDeadLetter(letter.id))) retried++;
        left -= letters.length;
        after = next;
        if (after === undefined) break;
      }
      return { retried };
    },
  );
}
