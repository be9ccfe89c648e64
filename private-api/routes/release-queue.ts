import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { wellFormedPattern } from "../../shared/protocol/grammar.ts";
import type { QueueName } from "../../shared/queues/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { PrivateApiContext } from "../node/context.ts";

const Body = Type.Object(
  {
    key: Type.String({ maxLength: 256, pattern: wellFormedPattern.source }),
    service: Type.Optional(Type.String({ pattern: wellFormedPattern.source })),
    tenant: Type.Optional(Type.String({ pattern: wellFormedPattern.source })),
  },
  { additionalProperties: false },
);

/** `POST /v1/queues/release { key, service?, tenant? }` → `{ released }`: its parked or delayed queues continue with a first attempt. */
export function addReleaseQueue(app: FastifyInstance, { queues }: PrivateApiContext): void {
  app.post<{ Body: Static<typeof Body> }>(
    "/v1/queues/release",
    {
      config: { access: "operate" },
      schema: {
        summary: "Continue with a parked or blocked key",
        tags: ["queues"],
        body: Body,
        response: { 200: Type.Object({ released: Type.Integer({ description: "Queues of the key" }) }) },
      },
    },
    async ({ body: { key, service, tenant } }) => {
      const isMeant = (queue: QueueName): boolean =>
        (service ?? queue.service) === queue.service && (tenant ?? queue.tenant) === queue.tenant;
      const held =
        service !== undefined && tenant !== undefined
          ? [{ service, tenant, key }]
          : (await queues.heldQueues(key)).filter(isMeant);
      const released = await Promise.all(held.map(async (queue) => queues.release(queue)));
      const count = released.filter(Boolean).length;
      if (count === 0)
        throw new TidegateError("not_found", "no queue of this key is parked or waits for its next attempt");
      return { released: count };
    },
  );
}
