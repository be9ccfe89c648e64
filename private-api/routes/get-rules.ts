import type { FastifyInstance } from "fastify";
import { maskSecrets } from "../../shared/rules/secrets.ts";
import { addDocumentGet } from "../documents/versioned-document.ts";
import type { PrivateApiContext } from "../node/context.ts";

/** `GET /v1/rules` → the rules in force and their `version`. */
export function addGetRules(app: FastifyInstance, { currentRules }: PrivateApiContext): void {
  addDocumentGet(app, {
    name: "rules",
    description: "Secrets written in the document show as ***.",
    current: currentRules,
    show: ({ document }) => maskSecrets(document),
  });
}
