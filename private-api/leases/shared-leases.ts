/** Holds this process's share of leases. Used for slots of the change log and shards of SQL sources. */
import { randomUUID } from "node:crypto";
import { readerLeaseMs } from "../../shared/changes/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

/** Nothing is begun under a lease that ends within this time. */
const marginMs = 2_000;

export interface LeaseStore<Name, Lease> {
  takeLeases(names: readonly Name[], holder: string): Promise<readonly Lease[]>;
  /** @returns for each whether it is still held; undefined: it cannot be reached. */
  extendLeases(leases: readonly Lease[]): Promise<readonly (boolean | undefined)[]>;
  releaseLeases(leases: readonly Lease[]): Promise<void>;
}

export interface HeldLease<Lease> {
  readonly lease: Lease;
  /** Since it was taken or last extended, by `performance.now()`. */
  heldSince: number;
}

export interface SharedLeasesOptions<Name, Lease, Held> {
  store: LeaseStore<Name, Lease>;
  nameOf: (lease: Lease) => Name;
  /** Everything that the processes share. */
  all: () => readonly Name[];
  toHeld: (lease: Lease, heldSince: number) => Held;
  /** How many processes share it. */
  readers: () => Promise<number>;
  /** The lease is lost. The name may be taken again, under another lease. */
  onLost: (name: Name, held: Held) => void;
}

export class SharedLeases<Name, Lease, Held extends HeldLease<Lease>> {
  readonly #options: SharedLeasesOptions<Name, Lease, Held>;
  readonly #holder = randomUUID();
  readonly #held = new Map<Name, Held>();
  /** Lost since the last renewal. */
  readonly #lost = new Set<Name>();

  constructor(options: SharedLeasesOptions<Name, Lease, Held>) {
    this.#options = options;
  }

  get all(): ReadonlyMap<Name, Held> {
    return this.#held;
  }

  /** Leases were lost: {@link renew} takes them again unless another process has them. */
  get hasLost(): boolean {
    return this.#lost.size > 0;
  }

  /** Undefined if the lease is not held, or may end before work that begins now. */
  of(name: Name): Held | undefined {
    const held = this.#held.get(name);
    return held && isValid(held) ? held : undefined;
  }

  /** Extends the leases, then takes or releases leases until the process has its share. @returns the leases that were taken */
  async renew(): Promise<readonly Held[]> {
    await this.#extend();
    const all = this.#options.all();
    const share = Math.ceil(all.length / Math.max(1, await this.#options.readers()));
    const known = new Set(all);
    const kept = [...this.#held].filter(([name]) => known.has(name)).map(([, held]) => held);
    const gone = [...this.#held].filter(([name]) => !known.has(name)).map(([, held]) => held);
    const excess = [...gone, ...kept.slice(share)];
    if (excess.length > 0) await this.#release(excess);
    const lost = [...this.#lost].filter((name) => known.has(name));
    this.#lost.clear();
    const missing = share - this.#held.size;
    if (missing <= 0) return [];
    // Beginning anywhere, so that processes do not all ask for the same ones.
    const from = Math.floor(Math.random() * all.length);
    const asked = [...new Set([...lost, ...all.slice(from), ...all.slice(0, from)])];
    const free = asked.filter((name) => !this.#held.has(name));
    return this.#take(free, missing);
  }

  async releaseAll(): Promise<void> {
    await this.#release([...this.#held.values()]);
  }

  /** Its lease is known to have ended. A later lease of the same name stays. */
  lose(held: Held): void {
    const name = this.#options.nameOf(held.lease);
    if (this.#held.get(name) !== held) return;
    this.#held.delete(name);
    this.#lost.add(name);
    this.#options.onLost(name, held);
  }

  /**
   * Asks for what is missing, and for twice as many after each answer that nothing is free: where others hold nearly all,
   * a few calls go through thousands.
   */
  async #take(names: readonly Name[], most: number): Promise<readonly Held[]> {
    const { store, nameOf, toHeld } = this.#options;
    const taken: Held[] = [];
    for (let at = 0, size = most; at < names.length && taken.length < most;) {
      const heldSince = performance.now();
      const asked = names.slice(at, at + size);
      at += asked.length;
      const leases = await store.takeLeases(asked, this.#holder);
      const missing = most - taken.length;
      for (const lease of leases.slice(0, missing)) {
        const held = toHeld(lease, heldSince);
        this.#held.set(nameOf(lease), held);
        taken.push(held);
      }
      await this.#giveBack(leases.slice(missing));
      size = leases.length === 0 ? 2 * size : most - taken.length;
    }
    return taken;
  }

  /** Leases that were never used. Does not reject where the store is out of reach: what was taken beside them is held. */
  async #giveBack(leases: readonly Lease[]): Promise<void> {
    if (leases.length === 0) return;
    try {
      await this.#options.store.releaseLeases(leases);
    } catch (error) {
      // They end by themselves.
      if (!(error instanceof TidegateError)) throw error;
    }
  }

  async #extend(): Promise<void> {
    const { store } = this.#options;
    const all = [...this.#held.values()];
    if (all.length === 0) return;
    const from = performance.now();
    const kept = await store.extendLeases(all.map(({ lease }) => lease));
    for (const [index, held] of all.entries()) {
      if (kept[index]) held.heldSince = from;
      // A lease whose store is out of reach stays valid until its time is over.
      else if (kept[index] === false || !isValid(held)) this.lose(held);
    }
  }

  async #release(held: readonly Held[]): Promise<void> {
    const { store, nameOf } = this.#options;
    for (const each of held) {
      this.lose(each);
      this.#lost.delete(nameOf(each.lease));
    }
    if (held.length > 0) await store.releaseLeases(held.map(({ lease }) => lease));
  }
}

function isValid({ heldSince }: HeldLease<unknown>): boolean {
  return performance.now() - heldSince < readerLeaseMs - marginMs;
}
