import type { ContainedErrors } from "../runtime/contained-errors.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { Logger } from "../runtime/logging.ts";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import type { DocumentName, DocumentStore, StoredDocument } from "./contract.ts";

/** Finds a change whose message was lost, or that could not be read. */
const defaultRecheckMs = 30_000;

interface CurrentDocumentOptions<Value> {
  name: DocumentName;
  store: DocumentStore;
  /** The value while nothing is stored. */
  none: Value;
  /** Parses a document before it takes effect; throws InvalidDocument to refuse it. */
  read: (stored: StoredDocument) => Value;
  /** Finds a change whose message was lost. */
  recheckMs?: number;
  errors: ContainedErrors;
  logger: Logger;
}

/** Keeps the newest valid document of a store in memory, also while the store is out of reach or has an invalid one. */
export class CurrentDocument<Value extends { readonly version: number }> implements Service {
  readonly #options: CurrentDocumentOptions<Value>;
  #value: Value;
  #changedAt = 0;
  #reading: Promise<void> | undefined;
  #changedWhileReading = false;
  #recheck: NodeJS.Timeout | undefined;
  #findings: readonly string[] = [];
  #isRead = false;

  constructor(options: CurrentDocumentOptions<Value>) {
    this.#options = options;
    this.#value = options.none;
  }

  get value(): Value {
    return this.#value;
  }

  /** Why the stored document is not in force; empty if it is. */
  get findings(): readonly string[] {
    return this.#findings;
  }

  /** The store has answered once, if only that it has no document. */
  get isRead(): boolean {
    return this.#isRead;
  }

  async start(): Promise<void> {
    const { store, errors, recheckMs = defaultRecheckMs } = this.#options;
    store.onChange(() => void this.refresh());
    await this.refresh();
    this.#recheck = errors.every(recheckMs, () => this.refresh());
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
        const { name, logger } = this.#options;
        logger.warn({ err: error }, `reading the ${name} failed, those in memory stay in force`);
      }
    }
    this.#reading = undefined;
  }

  async #readOnce(): Promise<void> {
    const { name, store, read, logger } = this.#options;
    const stored = await store.read();
    this.#isRead = true;
    if (!stored || (stored.version === this.#value.version && stored.changedAt === this.#changedAt)) {
      // The store lost the version that was refused.
      this.#findings = [];
      return;
    }
    const { version } = stored;
    try {
      this.#value = read(stored);
      this.#changedAt = stored.changedAt;
      this.#findings = [];
      logger.info({ version }, `${name} in force`);
    } catch (error) {
      if (!(error instanceof InvalidDocument)) throw error;
      this.#findings = error.findings;
      logger.error({ version, findings: error.findings }, `stored ${name} are not valid`);
    }
  }
}
