import type { EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { EndpointIndex } from "./endpoint-index.ts";

/** Finds a change whose message was lost. */
const recheckMs = 30_000;

/** `stored` is undefined where the endpoint was removed. */
export type EndpointListener = (id: string, stored: StoredEndpoint | undefined) => void;

/** Keeps all endpoints in memory, even while their store is out of reach. */
export class CurrentEndpoints implements Service {
  readonly #store: EndpointStore;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  readonly #index = new EndpointIndex();
  readonly #listeners: EndpointListener[] = [];
  #version = -1;
  #reading: Promise<void> | undefined;
  #isRefreshing = false;
  /** A change was announced since the refresh under way began to read. */
  #isStale = false;
  #recheck: NodeJS.Timeout | undefined;

  constructor(options: { store: EndpointStore; errors: ContainedErrors; logger: Logger }) {
    this.#store = options.store;
    this.#errors = options.errors;
    this.#logger = options.logger;
  }

  get index(): Pick<EndpointIndex, "get" | "match" | "all" | "size"> {
    return this.#index;
  }

  listen(listener: EndpointListener): void {
    this.#listeners.push(listener);
  }

  async start(): Promise<void> {
    this.#store.onChange(() => void this.#refresh());
    await this.#refresh();
    this.#recheck = this.#errors.every(recheckMs, () => this.#refresh());
  }

  async stop(): Promise<void> {
    clearInterval(this.#recheck);
  }

  /** Resolves once it has every change that the store had when it was called. @throws TidegateError where the store is out of reach */
  async catchUp(): Promise<void> {
    for (let version = await this.#store.version(); version !== this.#version; version = await this.#store.version()) {
      await this.#read();
      // Changes that came meanwhile are not waited for: there may always be one.
      if (this.#version >= version) return;
    }
  }

  /** One at a time, however many changes are announced. */
  async #refresh(): Promise<void> {
    this.#isStale = true;
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    while (this.#isStale) {
      this.#isStale = false;
      try {
        await this.catchUp();
      } catch (error) {
        this.#logger.warn({ err: error }, "reading the endpoints failed, those in memory stay in force");
      }
    }
    this.#isRefreshing = false;
  }

  /** One read at a time: a version is never replaced by one before it. */
  async #read(): Promise<void> {
    this.#reading ??= this.#readOnce().finally(() => {
      this.#reading = undefined;
    });
    await this.#reading;
  }

  async #readOnce(): Promise<void> {
    const { version, isAll, endpoints, removed } = await this.#store.readSince(this.#version);
    const kept = new Set(endpoints.map(({ endpoint }) => endpoint.id));
    const gone = isAll
      ? [...this.#index.all].map(({ endpoint }) => endpoint.id).filter((id) => !kept.has(id))
      : removed;
    for (const id of gone) {
      this.#index.delete(id);
      this.#tell(id, undefined);
    }
    for (const stored of endpoints) {
      const { id } = stored.endpoint;
      if (this.#index.get(id)?.version === stored.version) continue;
      this.#index.set(stored);
      this.#tell(id, stored);
    }
    this.#version = version;
  }

  #tell(id: string, stored: StoredEndpoint | undefined): void {
    for (const listener of this.#listeners) listener(id, stored);
  }
}
