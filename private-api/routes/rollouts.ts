import type { FastifyInstance } from "fastify";
import { checkRollouts } from "../../shared/rollouts/document.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { putRollouts } from "../documents/put-rollouts.ts";
import { addVersionedDocument } from "../documents/versioned-document.ts";

/** `GET /v1/rollouts`, `PUT /v1/rollouts`. */
export function addRollouts(app: FastifyInstance, context: PrivateApiContext): void {
  addVersionedDocument(app, {
    name: "rollouts",
    current: context.currentRollouts,
    show: ({ stored: { groups, fallback } }) => ({ groups, fallback }),
    put: async (given, ifVersion) => putRollouts(context.rolloutsStore, checkRollouts(given), ifVersion),
  });
}
