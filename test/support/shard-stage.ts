/** A reader of one shard in this process, whose store and broker are in memory. */
import { createPrivateApiMetrics } from "../../private-api/metrics/metrics.ts";
import type { openDatabase } from "../../private-api/sources/open-database.ts";
import { RowPublisher } from "../../private-api/sources/row-publisher.ts";
import { ShardReader } from "../../private-api/sources/shard-reader.ts";
import type { Shard } from "../../private-api/sources/shards.ts";
import type { PublishRequest } from "../../shared/channels/contract.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { noRules } from "../../shared/rules/rules.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { MemorySqlShardStore } from "../../shared/sql-sources/memory.ts";
import { quietErrors, quietLogger } from "./logger.ts";

const running: ShardReader[] = [];

export interface Stage {
  broker: MemoryBroker;
  store: MemorySqlShardStore;
  /** What was published, in order. */
  published: string[];
  /** Calls of store and broker until they fail. */
  failAfter: { calls: number };
}

export function newStage(): Stage {
  return {
    broker: new MemoryBroker(quietErrors),
    store: new MemorySqlShardStore(),
    published: [],
    failAfter: { calls: Infinity },
  };
}

/** It is stopped by the caller, or by {@link stopShardReaders}. */
export async function startShardReader(
  { broker, store, published, failAfter }: Stage,
  shard: Shard,
  open: typeof openDatabase,
): Promise<ShardReader> {
  const [lease] = await store.takeLeases([shard.name], "one");
  let pages = 0;
  const failsIn = (): void => {
    if (failAfter.calls-- <= 0) throw brokerUnavailable("the store of the test fails");
  };
  const reader = new ShardReader({
    shard,
    url: "postgres://test",
    lease: () => lease,
    onLeaseEnded: () => undefined,
    nextPage: () => ++pages,
    store: {
      read: async (name) => {
        failsIn();
        return store.read(name);
      },
      save: async (held, record) => {
        failsIn();
        return store.save(held, record);
      },
    },
    publisher: new RowPublisher({
      broker: {
        publish: async (request: PublishRequest) => {
          failsIn();
          const outcome = await broker.publish(request);
          if (outcome.kind === "published" && !outcome.duplicate) published.push(request.data);
          return outcome;
        },
      },
      rules: { rules: noRules },
      changeBudget: { retention: () => ({ maxBytes: 1, maxSeconds: 1, unclaimedSeconds: 1 }) },
      metrics: createPrivateApiMetrics(new Metrics()),
      logger: quietLogger,
    }),
    open,
    logger: quietLogger,
  });
  running.push(reader);
  reader.start();
  return reader;
}

export async function stopShardReaders(): Promise<void> {
  await Promise.all(running.splice(0).map(async (reader) => reader.stop()));
}
