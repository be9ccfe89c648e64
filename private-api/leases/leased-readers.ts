/** Readers of external sources that the rules list. This process runs its share of them, each under a lease. */
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import { readerLeaseMs } from "../../shared/changes/contract.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { Rules } from "../../shared/rules/rules.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { Environment } from "../../shared/runtime/settings.ts";
import type { ShardLease, SqlShardStore } from "../../shared/sql-sources/contract.ts";
import { type HeldLease, SharedLeases } from "./shared-leases.ts";

/** Also how soon new rules take effect. */
const reconcileMs = 1_000;
const reportMs = 2_000;

/** The constructor does nothing. {@link LeasedReaders} calls `start` once. */
export interface LeasedReader<Item> {
  readonly item: Item;
  /** Stored as JSON, so that every private API can report it. Undefined: not known yet. */
  readonly status: object | undefined;
  start(): void;
  stop(): Promise<void>;
}

export interface ReaderTerms {
  /** Always the same lease. Undefined once it has ended, and shortly before: work that begins then might outlive it. */
  lease: () => ShardLease | undefined;
  /** The reader calls it when the store reports that the lease has ended. */
  onLeaseEnded: () => void;
}

/** What a service of such readers needs, whatever they read. */
interface ReaderResources {
  store: SqlShardStore;
  rules: CurrentRules;
  /** How many processes share what is read. */
  readers: () => Promise<number>;
  errors: ContainedErrors;
  logger: Logger;
}

/** Of readers that publish. */
export interface PublishingReaderResources extends ReaderResources {
  changeBudget: ChangeBudget;
  /** Holds the URLs of what is read. */
  environment: Environment;
}

export interface LeasedReadersOptions<Item, Reader> extends ReaderResources {
  /** For logs, e.g. "SQL sources". */
  what: string;
  /** By name: the store's name of the item's shard. */
  itemsOf: (rules: Rules) => ReadonlyMap<string, Item>;
  /** Whether the same reader can continue. */
  isSame: (one: Item, other: Item) => boolean;
  open: (item: Item, terms: ReaderTerms) => Reader;
  /** How often leases are extended, and free ones taken. */
  renewMs?: number;
}

export class LeasedReaders<Item, Reader extends LeasedReader<Item>> implements Service {
  readonly #options: LeasedReadersOptions<Item, Reader>;
  readonly #held: SharedLeases<string, ShardLease, HeldLease<ShardLease>>;
  readonly #readers = new Map<string, Reader>();
  /** Readers that are stopping. */
  readonly #ending = new Map<string, Promise<void>>();
  #items: ReadonlyMap<string, Item> = new Map();
  /** Of {@link #items}. */
  #rules: Rules | undefined;
  #renewing: Promise<void> | undefined;
  #timers: NodeJS.Timeout[] = [];
  #stopping = false;

  constructor(options: LeasedReadersOptions<Item, Reader>) {
    this.#options = options;
    this.#held = new SharedLeases({
      store: options.store,
      nameOf: ({ shard }) => shard,
      all: () => [...this.#items.keys()],
      toHeld: (lease, heldSince) => ({ lease, heldSince }),
      readers: options.readers,
      onLost: (name) => this.#end(name),
    });
  }

  /** The readers that this process runs. */
  get running(): readonly Reader[] {
    return [...this.#readers.values()];
  }

  async start(): Promise<void> {
    const { errors, renewMs = readerLeaseMs / 3 } = this.#options;
    this.#timers = [
      errors.every(reconcileMs, () => this.#reconcile()),
      errors.every(renewMs, () => this.#renew()),
      errors.every(reportMs, () => this.#report()),
    ];
    await this.#reconcile();
  }

  async stop(): Promise<void> {
    const { what } = this.#options;
    this.#stopping = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#renewing;
    for (const name of this.#readers.keys()) this.#end(name);
    await Promise.all(this.#ending.values());
    await this.#held
      .releaseAll()
      .catch((error: unknown) => this.#failed(error, `the leases of ${what} could not be released`));
  }

  /** Applies new rules: ends readers whose item is gone or has changed, and starts readers for new items. */
  async #reconcile(): Promise<void> {
    const { itemsOf, isSame } = this.#options;
    const { rules } = this.#options.rules;
    // Not by their version: rules that are put after the store has lost the ones before may get the same.
    if (rules !== this.#rules) {
      this.#rules = rules;
      this.#items = itemsOf(rules);
      for (const [name, reader] of this.#readers) {
        const item = this.#items.get(name);
        if (!item || !isSame(item, reader.item)) this.#end(name);
      }
      // A renewal that is under way may not know the new ones.
      await this.#renewing;
      await this.#renew();
    } else if (this.#held.hasLost) await this.#renew();
    this.#begin();
  }

  async #renew(): Promise<void> {
    // A lease that is taken after the release would stay held until it expires.
    if (this.#stopping || (this.#items.size === 0 && this.#held.all.size === 0)) return;
    this.#renewing ??= this.#renewOnce().finally(() => {
      this.#renewing = undefined;
    });
    await this.#renewing;
  }

  async #renewOnce(): Promise<void> {
    try {
      await this.#held.renew();
      this.#begin();
    } catch (error) {
      this.#failed(error, `the leases of ${this.#options.what} could not be renewed`);
    }
  }

  /** Starts a reader for each held lease that has none, unless the previous reader of the item is still stopping. */
  #begin(): void {
    for (const [name, held] of this.#held.all) {
      const item = this.#items.get(name);
      if (item === undefined || this.#stopping || this.#readers.has(name) || this.#ending.has(name)) continue;
      // The reader must not use a later lease: another process may have read on in between.
      const reader = this.#options.open(item, {
        lease: () => (this.#held.of(name) === held ? held.lease : undefined),
        onLeaseEnded: () => this.#held.lose(held),
      });
      this.#readers.set(name, reader);
      reader.start();
    }
  }

  #end(name: string): void {
    const reader = this.#readers.get(name);
    if (!reader) return;
    this.#readers.delete(name);
    const ended = reader.stop().finally(() => this.#ending.delete(name));
    this.#ending.set(name, ended);
    this.#options.errors.contain("store", () => ended);
  }

  async #report(): Promise<void> {
    const reports = [...this.#readers].map(async ([name, { status }]) => {
      const lease = this.#held.of(name)?.lease;
      if (lease && status) await this.#options.store.save(lease, { status: JSON.stringify(status) });
    });
    const failed = (await Promise.allSettled(reports)).find((report) => report.status === "rejected");
    if (failed) this.#failed(failed.reason, `the status of ${this.#options.what} could not be stored`);
  }

  #failed(error: unknown, message: string): void {
    if (error instanceof TidegateError) this.#options.logger.debug({ err: error }, message);
    else this.#options.errors.report("store", error);
  }
}
