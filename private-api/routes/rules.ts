import type { FastifyInstance } from "fastify";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { checkRules } from "../../shared/rules/document.ts";
import { Rules } from "../../shared/rules/rules.ts";
import { maskSecrets, resolveSecrets } from "../../shared/rules/secrets.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { addVersionedDocument } from "../documents/versioned-document.ts";

/** `GET /v1/rules`, `PUT /v1/rules`. */
export function addRules(app: FastifyInstance, context: PrivateApiContext): void {
  const { rulesStore, currentRules, environment } = context;
  addVersionedDocument(app, {
    name: "rules",
    description: "Secrets written in the document show as ***.",
    current: currentRules,
    show: ({ document }) => maskSecrets(document),
    put: async (given, ifVersion) => {
      if (context.rulesFromFile) {
        throw new TidegateError("conflict", "the rules come from a file (RULES_FILE): change that instead");
      }
      const document = checkRules(given);
      resolveSecrets(new Rules(0, document), environment);
      return rulesStore.put({ document, changedAt: Date.now(), ...(ifVersion !== undefined && { ifVersion }) });
    },
  });
}
