import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { CurrentDocument } from "../documents/current-document.ts";
import type { DocumentStore } from "../documents/contract.ts";
import type { Logger } from "../runtime/logging.ts";
import { checkStoredRollouts } from "./document.ts";
import { noRollouts, Rollouts } from "./rollouts.ts";

/** Keeps the newest valid rollouts of the store. */
export class CurrentRollouts extends CurrentDocument<Rollouts> {
  constructor(options: { store: DocumentStore; errors: ContainedErrors; logger: Logger }) {
    super({
      ...options,
      name: "rollouts",
      none: noRollouts,
      read: ({ version, document }) => new Rollouts(version, checkStoredRollouts(document)),
    });
  }

  get rollouts(): Rollouts {
    return this.value;
  }
}
