import type { FastifyInstance } from "fastify";
import { TidegateError } from "../../shared/errors.ts";
import { InvalidDocument } from "../../shared/documents/invalid-document.ts";
import type { PutOutcome, StoredDocument } from "../../shared/documents/store.ts";
import { checkRollouts, checkStoredRollouts, type StoredRollouts, withShares } from "../../shared/rollouts/document.ts";
import type { PrivateApiContext } from "../context.ts";
import { addVersionedDocument } from "./versioned-document.ts";

/** Others may put at the same time: each try goes by what is stored then. */
const maxTries = 5;

/** `GET /v1/rollouts`, `PUT /v1/rollouts`. */
export function addRollouts(app: FastifyInstance, context: PrivateApiContext): void {
  const { rolloutsStore, currentRollouts } = context;
  addVersionedDocument(app, context, {
    name: "rollouts",
    current: currentRollouts,
    show: ({ stored: { groups, fallback } }) => ({ groups, fallback }),
    put: async (given, ifVersion): Promise<PutOutcome> => {
      const rollouts = checkRollouts(given);
      for (let tries = 0; tries < maxTries; tries++) {
        const stored = await rolloutsStore.read();
        const version = stored?.version ?? 0;
        if (ifVersion !== undefined && ifVersion !== version) return { kind: "version_differs", version };
        const document = withShares(rollouts, stored && validOrNone(stored));
        const outcome = await rolloutsStore.put({ document, changedAt: Date.now(), ifVersion: version });
        if (outcome.kind !== "version_differs" || ifVersion !== undefined) return outcome;
      }
      throw new TidegateError("conflict", "others change the rollouts at the same time");
    },
  });
}

/** What is not valid here has no shares that could be kept. */
function validOrNone({ document }: StoredDocument): StoredRollouts | undefined {
  try {
    return checkStoredRollouts(document);
  } catch (error) {
    if (error instanceof InvalidDocument) return undefined;
    throw error;
  }
}
