/** How many items of a tenant may wait: counted by the store, and by this process since it last asked the store. */
import type { QueueStore } from "./contract.ts";

/** What a tenant may have between two looks at the store, of what was free at the last one. */
const trustedPart = 1 / 8;
/** Others enqueue as well, and dispatchers work items off. */
const maxAgeMs = 10_000;
const maxTenants = 10_000;

interface Known {
  waiting: number;
  /** Stored by this process since. */
  added: number;
  /** By `performance.now()`. */
  readAt: number;
}

export class TenantQuota {
  readonly #store: QueueStore;
  readonly #limit: () => number;
  readonly #classes: () => readonly string[];
  /** The tenants that were asked for last. */
  readonly #tenants = new Map<string, Known>();
  /** Under way, by tenant. */
  readonly #reads = new Map<string, Promise<Known>>();

  /** @param options of the rules in force */
  constructor(store: QueueStore, options: { limit: () => number; classes: () => readonly string[] }) {
    this.#store = store;
    this.#limit = options.limit;
    this.#classes = options.classes;
  }

  /** Whether `items` more of the tenant may wait; they are counted. Answers come in the order of the questions. */
  async allows(tenant: string, items: number): Promise<boolean> {
    const limit = this.#limit();
    let known = this.#tenants.get(tenant);
    if (!known || this.#reads.has(tenant) || !this.#isTrusted(known, items, limit)) known = await this.#read(tenant);
    if (known.waiting + known.added + items > limit) return false;
    known.added += items;
    return true;
  }

  #isTrusted({ waiting, added, readAt }: Known, items: number, limit: number): boolean {
    if (performance.now() - readAt > maxAgeMs) return false;
    return added + items <= (limit - waiting) * trustedPart;
  }

  /** One read at a time for a tenant: who asks meanwhile waits for the same, so that nobody overtakes. */
  async #read(tenant: string): Promise<Known> {
    let read = this.#reads.get(tenant);
    if (!read) {
      read = this.#look(tenant);
      this.#reads.set(tenant, read);
    }
    return read;
  }

  async #look(tenant: string): Promise<Known> {
    try {
      const waiting = await this.#store.waiting(tenant, this.#classes());
      const known = { waiting, added: 0, readAt: performance.now() };
      this.#tenants.delete(tenant);
      const [oldest] = this.#tenants.keys();
      if (this.#tenants.size >= maxTenants && oldest !== undefined) this.#tenants.delete(oldest);
      this.#tenants.set(tenant, known);
      return known;
    } finally {
      this.#reads.delete(tenant);
    }
  }
}
