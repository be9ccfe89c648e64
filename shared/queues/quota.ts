/** How many items of a tenant may wait: counted by the store, and by this process since it last asked the store. */
import type { QueueStore } from "./contract.ts";

/** Of what was free at the last read of the store: this process may fill so much before it reads again. */
const trustedPart = 1 / 8;
/** Other processes enqueue as well, and dispatchers deliver. */
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
  /** Bounded: the tenant that was read first is forgotten first. */
  readonly #tenants = new Map<string, Known>();
  /** The last question that waits for the store, by tenant: later ones wait behind it. */
  readonly #turns = new Map<string, Promise<boolean>>();

  /** @param options of the rules in force */
  constructor(store: QueueStore, options: { limit: () => number; classes: () => readonly string[] }) {
    this.#store = store;
    this.#limit = options.limit;
    this.#classes = options.classes;
  }

  /** Whether `items` more of the tenant may wait; they are counted. Answers come in the order of the questions. */
  async allows(tenant: string, items: number): Promise<boolean> {
    const earlier = this.#turns.get(tenant);
    const known = this.#tenants.get(tenant);
    if (!earlier && known && this.#isTrusted(known, items)) return this.#take(known, items);
    const decide = async (): Promise<boolean> => {
      const newest = this.#tenants.get(tenant);
      return this.#take(newest && this.#isTrusted(newest, items) ? newest : await this.#read(tenant), items);
    };
    const turn = earlier ? earlier.then(decide, decide) : decide();
    this.#turns.set(tenant, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(tenant) === turn) this.#turns.delete(tenant);
    }
  }

  #take(known: Known, items: number): boolean {
    if (known.waiting + known.added + items > this.#limit()) return false;
    known.added += items;
    return true;
  }

  #isTrusted({ waiting, added, readAt }: Known, items: number): boolean {
    if (performance.now() - readAt > maxAgeMs) return false;
    return added + items <= (this.#limit() - waiting) * trustedPart;
  }

  async #read(tenant: string): Promise<Known> {
    const waiting = await this.#store.waiting(tenant, this.#classes());
    const known = { waiting, added: 0, readAt: performance.now() };
    this.#tenants.delete(tenant);
    const [oldest] = this.#tenants.keys();
    if (this.#tenants.size >= maxTenants && oldest !== undefined) this.#tenants.delete(oldest);
    this.#tenants.set(tenant, known);
    return known;
  }
}
