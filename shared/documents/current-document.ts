import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import type { DocumentName, DocumentStore, StoredDocument } from "./contract.ts";

/** Finds a change whose message was lost, or that could not be read. */
const defaultRecheckMs = 30_000;

/** Keeps the newest valid document of a store in memory, also while the store is out of reach or has an invalid one. */
export class CurrentDocument<Value extends { readonly version: number }> implements Service {
  readonly #name: DocumentName;
  readonly #store: DocumentStore;
  readonly #read: (stored: StoredDocument) => Value;
  readonly #recheckMs: number;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  #value: Value;
  #changedAt = 0;
  #reading: Promise<void> | undefined;
  #changedWhileReading = false;
  #recheck: NodeJS.Timeout | undefined;
  #findings: readonly string[] = [];

  /**
   * @param options.none the value while nothing is stored.
   * @param options.read parses a document before it takes effect; throws InvalidDocument to refuse it.
   */
  constructor(options: {
    name: DocumentName;
    store: DocumentStore;
    none: Value;
    read: (stored: StoredDocument) => Value;
    /** Finds a change whose message was lost. */
    recheckMs?: number;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    this.#recheckMs = options.recheckMs ?? defaultRecheckMs;
    this.#name = options.name;
    this.#store = options.store;
    this.#value = options.none;
    this.#read = options.read;
    this.#errors = options.errors;
    this.#logger = options.logger;
  }

  get value(): Value {
    return this.#value;
  }

  /** Why the stored document is not in force; empty if it is. */
  get findings(): readonly string[] {
    return this.#findings;
  }

  async start(): Promise<void> {
    this.#store.onChange(() => void this.refresh());
    await this.refresh();
    this.#recheck = this.#errors.every(this.#recheckMs, () => this.refresh());
  }

  async stop(): Promise<void> {
    clearInterval(this.#recheck);
  }

  /** Reads the store again. Resolves once its current document is in force or refused. */
  async refresh(): Promise<void> {
    this.#changedWhileReading = true;
    this.#reading ??= this.#readUntilUnchanged();
    await this.#reading;
  }

  async #readUntilUnchanged(): Promise<void> {
    while (this.#changedWhileReading) {
      this.#changedWhileReading = false;
      try {
        await this.#readOnce();
      } catch (error) {
        this.#logger.warn({ err: error }, `reading the ${this.#name} failed, those in memory stay in force`);
      }
    }
    this.#reading = undefined;
  }

  async #readOnce(): Promise<void> {
    const stored = await this.#store.read();
    if (!stored || (stored.version === this.#value.version && stored.changedAt === this.#changedAt)) return;
    const { version } = stored;
    try {
      this.#value = this.#read(stored);
      this.#changedAt = stored.changedAt;
      this.#findings = [];
      this.#logger.info({ version }, `${this.#name} in force`);
    } catch (error) {
      if (!(error instanceof InvalidDocument)) throw error;
      this.#findings = error.findings;
      this.#logger.error({ version, findings: error.findings }, `stored ${this.#name} are not valid`);
    }
  }
}
