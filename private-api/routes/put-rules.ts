import type { FastifyInstance } from "fastify";
import { checkRules } from "../../shared/rules/document.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { addDocumentPut } from "../documents/versioned-document.ts";
import type { PrivateApiContext } from "../node/context.ts";

/** `PUT /v1/rules` the rules → `{ version }`. */
export function addPutRules(app: FastifyInstance, context: PrivateApiContext): void {
  const { rulesStore, currentRules, environment } = context;
  addDocumentPut(app, {
    name: "rules",
    current: currentRules,
    put: async (given, ifVersion) => {
      if (context.rulesFromFile) {
        throw new TidegateError("conflict", "the rules come from a file: change RULES_FILE instead");
      }
      const document = checkRules(given, environment);
      return rulesStore.put({ document, ...(ifVersion !== undefined && { ifVersion }) });
    },
  });
}
