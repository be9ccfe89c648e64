import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import type { DocumentStore, PutOutcome, StoredDocument } from "../../shared/documents/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import {
  checkStoredRollouts,
  type RolloutsDocument,
  type StoredRollouts,
  withShares,
} from "../../shared/rollouts/document.ts";

/** As many concurrent puts succeed: one of them is stored in each round. */
const maxTries = 20;

/**
 * Stores rollouts, with shares that keep those of the stored ones where possible.
 * @param ifVersion store only over this version; undefined: over any.
 * @throws TidegateError `conflict` after too many concurrent puts.
 */
export async function storeRollouts(
  store: DocumentStore,
  rollouts: RolloutsDocument,
  ifVersion: number | undefined,
): Promise<PutOutcome> {
  for (let tries = 0; tries < maxTries; tries++) {
    const stored = await store.read();
    const { version, changedAt } = stored ?? { version: 0, changedAt: 0 };
    if (ifVersion !== undefined && ifVersion !== version) return { kind: "version_differs", version, changedAt };
    const document = withShares(rollouts, stored && validOrNone(stored));
    const outcome = await store.put({ document, ifVersion: version });
    if (outcome.kind !== "version_differs" || ifVersion !== undefined) return outcome;
  }
  throw new TidegateError("conflict", "too many concurrent changes of the rollouts: try again");
}

/** Undefined where the stored document is not valid: it has no shares to keep. */
function validOrNone({ document }: StoredDocument): StoredRollouts | undefined {
  try {
    return checkStoredRollouts(document);
  } catch (error) {
    if (error instanceof InvalidDocument) return undefined;
    throw error;
  }
}
