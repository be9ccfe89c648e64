/** A bridge, and a reader of a table, that are told to stop while they read their progress. */
import { expect, test } from "vitest";
import { Bridge } from "../../private-api/bridges/bridge.ts";
import { ShardReader } from "../../private-api/sources/shard-reader.ts";
import { noRules } from "../../shared/rules/rules.ts";
import { MemorySqlShardStore } from "../../shared/sql-sources/memory.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

interface SlowStore {
  store: MemorySqlShardStore;
  /** Resolves when it is read. */
  asked: Promise<void>;
  release: () => void;
}

/** A store that answers once it is released. */
function slowStore(): SlowStore {
  const store = new MemorySqlShardStore();
  const [asked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const read = store.read.bind(store);
  store.read = async (shard) => {
    asked.resolve();
    await released.promise;
    return read(shard);
  };
  return { store, asked: asked.promise, release: released.resolve };
}

async function stopWhileReading(
  reader: Pick<Bridge | ShardReader, "start" | "stop">,
  { asked, release }: SlowStore,
): Promise<void> {
  reader.start();
  await asked;
  const stopped = reader.stop();
  release();
  await stopped;
}

test("BRI-8: a bridge that is stopped while it reads its progress ends, and joins no fleet", async () => {
  const slow = slowStore();
  const { store } = slow;
  const [lease] = await store.takeLeases(["bridge:one"], "test");
  let opened = 0;
  const bridge = new Bridge({
    item: {
      name: "one",
      rule: { redis: "env:URL", adapter: "classic", direction: "in", rooms: { "room-{id}": "room:{id}" } },
    },
    url: "redis://127.0.0.1",
    openServers: () => {
      opened++;
      throw new Error("no fleet");
    },
    incoming: {
      broker: {
        publish: async () => Promise.reject(new Error()),
        publishEphemeral: async () => ({ duplicate: false }),
      },
      rules: { rules: noRules },
      changeBudget: { retention: () => ({ maxBytes: 0, maxSeconds: 0, unclaimedSeconds: 0 }) },
    },
    pulls: { pull: async () => Promise.reject(new Error()) },
    ...{ store, nextNumber: () => 1, metrics: { bridgeMessages: { inc: () => undefined } } as never },
    ...{ errors: quietErrors, logger: quietLogger, lease: () => lease, onLeaseEnded: () => undefined },
  });
  await stopWhileReading(bridge, slow);
  expect(opened).toBe(0);
});

test("SQL-10: a reader that is stopped while it reads its progress ends, and opens no database", async () => {
  const slow = slowStore();
  const { store } = slow;
  const [lease] = await store.takeLeases(["crm/URL"], "test");
  let opened = 0;
  const reader = new ShardReader({
    shard: {
      ...{ name: "crm/URL", source: "crm", variable: "URL" },
      rule: { driver: "postgres", url: "env:URL", table: "log", channel: "a:{id}", event: "e", data: "d" },
    },
    url: "postgres://127.0.0.1/none",
    open: async () => {
      opened++;
      return Promise.reject(new Error("no database"));
    },
    ...{ store, nextPage: () => 1, publisher: { publish: async () => ({ published: 0, skipped: 0 }) } },
    ...{ logger: quietLogger, lease: () => lease, onLeaseEnded: () => undefined },
  });
  await stopWhileReading(reader, slow);
  expect(opened).toBe(0);
});
