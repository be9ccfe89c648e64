import type { FastifyInstance } from "fastify";
import { addDocumentGet } from "../documents/versioned-document.ts";
import type { PrivateApiContext } from "../node/context.ts";

/** `GET /v1/rollouts` → the rollouts in force and their `version`. */
export function addGetRollouts(app: FastifyInstance, { currentRollouts }: PrivateApiContext): void {
  addDocumentGet(app, {
    name: "rollouts",
    current: currentRollouts,
    show: ({ stored: { groups, fallback } }) => ({ groups, fallback }),
  });
}
