import type { FastifyInstance } from "fastify";
import { checkRollouts } from "../../shared/rollouts/document.ts";
import { storeRollouts } from "../documents/store-rollouts.ts";
import { addDocumentPut } from "../documents/versioned-document.ts";
import type { PrivateApiContext } from "../node/context.ts";

/** `PUT /v1/rollouts` the rollouts → `{ version }`. */
export function addPutRollouts(app: FastifyInstance, { currentRollouts, rolloutsStore }: PrivateApiContext): void {
  addDocumentPut(app, {
    name: "rollouts",
    current: currentRollouts,
    put: async (given, ifVersion) => storeRollouts(rolloutsStore, checkRollouts(given), ifVersion),
  });
}
