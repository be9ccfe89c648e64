import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { depthsByClass, depthsByTenant } from "../../shared/queues/depths.ts";
import type { PrivateApiContext } from "../node/context.ts";

const count = Type.Integer({ minimum: 0 });
const oldestMs = Type.Integer({ minimum: 0, description: "Age of the oldest item; of very many keys a sample counts" });
const Answer = Type.Object({
  classes: Type.Array(
    Type.Object({
      class: Type.String(),
      waiting: count,
      keys: Type.Integer({ minimum: 0, description: "Ordering keys with items; of very many lanes a sample counts" }),
      inFlight: count,
      oldestMs,
    }),
  ),
  tenants: Type.Array(Type.Object({ tenant: Type.String(), waiting: count, oldestMs })),
  deadLetters: count,
  unreachedSlots: Type.Optional(
    Type.Integer({ description: "Hash slots that could not be reached: their queues are not counted" }),
  ),
});

const maxTenants = 20;

/** `GET /v1/queues` → items by class, the tenants with most waiting items, and the number of dead letters. */
export function addGetQueues(app: FastifyInstance, context: PrivateApiContext): void {
  app.get(
    "/v1/queues",
    {
      config: { access: "read" },
      schema: { summary: "What waits in the queues", tags: ["queues"], response: { 200: Answer } },
    },
    async () => answer(context),
  );
}

async function answer({ queues, currentRules }: PrivateApiContext): Promise<Static<typeof Answer>> {
  const { depths, deadLetters, unreachedSlots } = await queues.depths();
  const classes = depthsByClass(depths, currentRules.rules.classes.keys());
  const fullest = [...depthsByTenant(depths)]
    .filter(([, { waiting }]) => waiting > 0)
    .sort(([, a], [, b]) => b.waiting - a.waiting);
  return {
    classes: [...classes].map(([name, { queues: keys, ...figures }]) => ({ class: name, keys, ...figures })),
    tenants: fullest.slice(0, maxTenants).map(([tenant, { waiting, oldestMs }]) => ({ tenant, waiting, oldestMs })),
    deadLetters,
    ...(unreachedSlots > 0 && { unreachedSlots }),
  };
}
