import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import type { DocumentStore, PutOutcome, StoredDocument } from "../../shared/documents/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import {
  checkStoredRollouts,
  type RolloutsDocument,
  type StoredRollouts,
  withShares,
} from "../../shared/rollouts/document.ts";

/** Of so many who put at the same time each has its turn: in every round one is stored. */
const maxTries = 20;

/**
 * Stores rollouts, with shares that go by those that are stored.
 * @param ifVersion only over this version; undefined: over any.
 */
export async function putRollouts(
  store: DocumentStore,
  rollouts: RolloutsDocument,
  ifVersion: number | undefined,
): Promise<PutOutcome> {
  for (let tries = 0; tries < maxTries; tries++) {
    const stored = await store.read();
    const version = stored?.version ?? 0;
    if (ifVersion !== undefined && ifVersion !== version) return { kind: "version_differs", version };
    const document = withShares(rollouts, stored && validOrNone(stored));
    const outcome = await store.put({ document, changedAt: Date.now(), ifVersion: version });
    if (outcome.kind !== "version_differs" || ifVersion !== undefined) return outcome;
  }
  throw new TidegateError("conflict", "others change the rollouts at the same time");
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
