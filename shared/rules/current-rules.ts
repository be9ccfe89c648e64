import type { Service } from "../lifecycle.ts";
import type { Logger } from "../logging.ts";
import { checkRules, RulesError } from "./document.ts";
import { noRules, Rules } from "./rules.ts";
import type { RulesStore } from "./store.ts";

/** For a change whose message was lost, or that could not be read. */
const recheckMs = 30_000;

/**
 * The newest valid rules of the store, kept in memory. Neither an invalid document nor a store that cannot be asked
 * takes them away again.
 */
export class CurrentRules implements Service {
  readonly #store: RulesStore;
  readonly #logger: Logger;
  readonly #accept: (rules: Rules) => void;
  #rules: Rules = noRules;
  #changedAt = 0;
  #reading: Promise<void> | undefined;
  #changedWhileReading = false;
  #recheck: NodeJS.Timeout | undefined;
  #findings: readonly string[] = [];

  /** @param accept called before rules come into force; throws RulesError to refuse them. */
  constructor(options: { store: RulesStore; logger: Logger; accept?: (rules: Rules) => void }) {
    this.#store = options.store;
    this.#logger = options.logger;
    this.#accept = options.accept ?? (() => undefined);
  }

  get rules(): Rules {
    return this.#rules;
  }

  /** Why the stored document is not in force; empty when it is. */
  get findings(): readonly string[] {
    return this.#findings;
  }

  async start(): Promise<void> {
    this.#store.onChange(() => void this.refresh());
    await this.refresh();
    this.#recheck = setInterval(() => void this.refresh(), recheckMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#recheck);
  }

  /** Reads the store again. Resolves when what it holds now is in force, or refused. */
  async refresh(): Promise<void> {
    this.#changedWhileReading = true;
    this.#reading ??= this.#readUntilUnchanged();
    await this.#reading;
  }

  async #readUntilUnchanged(): Promise<void> {
    while (this.#changedWhileReading) {
      this.#changedWhileReading = false;
      try {
        await this.#read();
      } catch (error) {
        this.#logger.warn({ err: error }, "the rules could not be read, those in memory stay in force");
      }
    }
    this.#reading = undefined;
  }

  async #read(): Promise<void> {
    const stored = await this.#store.read();
    if (!stored || (stored.version === this.#rules.version && stored.changedAt === this.#changedAt)) return;
    try {
      const rules = new Rules(stored.version, checkRules(stored.document));
      this.#accept(rules);
      this.#rules = rules;
      this.#changedAt = stored.changedAt;
      this.#findings = [];
      this.#logger.info({ version: rules.version }, "rules in force");
    } catch (error) {
      if (!(error instanceof RulesError)) throw error;
      this.#findings = error.findings;
      this.#logger.error({ version: stored.version, findings: error.findings }, "stored rules are not valid here");
    }
  }
}
