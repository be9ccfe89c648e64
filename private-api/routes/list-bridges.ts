import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { bridgeDefaults } from "../../shared/rules/bridges.ts";
import { type BridgeItem, bridgesOf, storedName } from "../bridges/bridge-items.ts";
import { parseBridgeStatus } from "../bridges/bridge-status.ts";
import { BridgeCounts, noCounts, parseBridgeProgress } from "../bridges/progress.ts";
import { readReport } from "../leases/read-report.ts";
import type { PrivateApiContext } from "../node/context.ts";

const BridgeAnswer = Type.Object({
  name: Type.String(),
  adapter: Type.String(),
  namespace: Type.String(),
  direction: Type.String(),
  state: Type.Enum(["live", "degraded", "refused", "unread"], {
    description: "refused: something must be changed, see lastError; unread: no private API runs it",
  }),
  lag: Type.Object({
    ms: Type.Integer({ minimum: 0, description: "0 while no publication waits to be emitted" }),
  }),
  ...BridgeCounts.properties,
  lastError: Type.Optional(Type.Object({ at: Type.Integer({ minimum: 0 }), message: Type.String() })),
});
const Answer = Type.Object({ bridges: Type.Array(BridgeAnswer) });

interface Context {
  currentRules: Pick<PrivateApiContext["currentRules"], "rules">;
  sqlShards: Pick<PrivateApiContext["sqlShards"], "read">;
}

/** `GET /v1/bridges` → the bridges of the rules, with the state of each. */
export function addListBridges(app: FastifyInstance, context: Context): void {
  app.get(
    "/v1/bridges",
    {
      config: { access: "read" },
      schema: { summary: "How bridges to Socket.IO fleets are", tags: ["bridges"], response: { 200: Answer } },
    },
    async (): Promise<Static<typeof Answer>> => {
      const items = [...bridgesOf(context.currentRules.rules).values()];
      return { bridges: await Promise.all(items.map(async (item) => answerFor(item, context))) };
    },
  );
}

async function answerFor(
  { name, rule }: BridgeItem,
  { sqlShards }: Pick<Context, "sqlShards">,
): Promise<Static<typeof BridgeAnswer>> {
  const { adapter, namespace, direction } = { ...bridgeDefaults, ...rule };
  const { progress, ...report } = await readReport(storedName(name), { store: sqlShards, parse: parseBridgeStatus });
  // One that a newer version wrote does not hide the other bridges.
  const known = progress === undefined ? undefined : parseBridgeProgress(progress);
  return { name, adapter, namespace, direction, ...report, ...(known?.counts ?? noCounts) };
}
