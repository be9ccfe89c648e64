/** The SQL sources of the rules: this process reads its share of their shards, each under a lease, each by a reader of its own. */
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { LeasedReaders, type PublishingReaderResources, type ReaderTerms } from "../leases/leased-readers.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import { openDatabase } from "./open-database.ts";
import { RowPublisher } from "./row-publisher.ts";
import { ShardReader } from "./shard-reader.ts";
import type { ShardStatus } from "./shard-status.ts";
import { isSameShard, type Shard, shardsOf } from "./shards.ts";

export interface SqlSourcesOptions extends PublishingReaderResources {
  broker: Pick<ChannelBroker, "publish">;
  metrics: Pick<PrivateApiMetrics, "sqlRows" | "unlistedNamespaces">;
}

export class SqlSources implements Service {
  readonly #options: SqlSourcesOptions;
  readonly #readers: LeasedReaders<Shard, ShardReader>;
  readonly #publisher: RowPublisher;
  /** Of all readers: one that follows another under the same lease counts on. */
  #pages = 0;

  constructor(options: SqlSourcesOptions) {
    const { store, rules, readers, errors, logger } = options;
    this.#options = options;
    this.#publisher = new RowPublisher(options);
    this.#readers = new LeasedReaders({
      ...{ store, rules, readers, errors, logger },
      what: "SQL sources",
      itemsOf: shardsOf,
      isSame: isSameShard,
      open: (shard, terms) => this.#open(shard, terms),
    });
  }

  /** Of the shards that this process reads. */
  get statuses(): readonly { source: string; status: ShardStatus }[] {
    return this.#readers.running.flatMap(({ item, status }) => (status ? { source: item.source, status } : []));
  }

  async start(): Promise<void> {
    await this.#readers.start();
  }

  async stop(): Promise<void> {
    await this.#readers.stop();
  }

  #open(shard: Shard, terms: ReaderTerms): ShardReader {
    const { store, environment, logger } = this.#options;
    return new ShardReader({
      shard,
      url: environment[shard.variable],
      nextPage: () => ++this.#pages,
      ...{ ...terms, store, logger, publisher: this.#publisher, open: openDatabase },
    });
  }
}
