import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { PrivateApiContext } from "../node/context.ts";

const Path = Type.Object({ id: Type.String() });

/** `DELETE /v1/dead-letters/{id}` → 204. */
export function addDeleteDeadLetter(app: FastifyInstance, { queues }: PrivateApiContext): void {
  app.delete<{ Params: Static<typeof Path> }>(
    "/v1/dead-letters/:id",
    {
      config: { access: "operate" },
      schema: { summary: "Forget an item that failed", tags: ["queues"], params: Path, response: { 204: Type.Null() } },
    },
    async ({ params: { id } }, reply) => {
      if (!(await queues.removeDeadLetter(id))) throw new TidegateError("not_found", "no such dead letter");
      return reply.code(204).send();
    },
  );
}
