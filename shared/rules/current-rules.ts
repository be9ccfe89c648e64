import type { ContainedErrors } from "../runtime/contained-errors.ts";
import { CurrentDocument } from "../documents/current-document.ts";
import type { DocumentStore } from "../documents/contract.ts";
import type { Logger } from "../runtime/logging.ts";
import { checkRules } from "./document.ts";
import { noRules, Rules } from "./rules.ts";

/** Keeps the newest valid rules of the store. */
export class CurrentRules extends CurrentDocument<Rules> {
  /** @param options.accept called before rules take effect; throws InvalidDocument to refuse them. */
  constructor(options: {
    store: DocumentStore;
    errors: ContainedErrors;
    logger: Logger;
    accept?: (rules: Rules) => void;
  }) {
    const { store, errors, logger, accept } = options;
    super({
      name: "rules",
      store,
      none: noRules,
      read: ({ version, document }) => {
        const rules = new Rules(version, checkRules(document));
        accept?.(rules);
        return rules;
      },
      errors,
      logger,
    });
  }

  get rules(): Rules {
    return this.value;
  }
}
