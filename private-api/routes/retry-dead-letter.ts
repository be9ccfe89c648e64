import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { PrivateApiContext } from "../node/context.ts";

const Path = Type.Object({ id: Type.String() });

/** `POST /v1/dead-letters/{id}/retry` → 202: the item goes to the tail of its queue, with its first attempt. */
export function addRetryDeadLetter(app: FastifyInstance, { queues }: PrivateApiContext): void {
  app.post<{ Params: Static<typeof Path> }>(
    "/v1/dead-letters/:id/retry",
    {
      config: { access: "operate" },
      schema: {
        summary: "Retry an item that failed",
        tags: ["queues"],
        params: Path,
        response: { 202: Type.Object({}) },
      },
    },
    async ({ params: { id } }, reply) => {
      if (!(await queues.retryDeadLetter(id))) throw new TidegateError("not_found", "no such dead letter");
      return reply.code(202).send({});
    },
  );
}
