/** The tests of every DocumentStore. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemoryDocumentStore } from "../../shared/documents/memory.ts";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import type { DocumentName, DocumentStore } from "../../shared/documents/contract.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
const connections: RedisConnections[] = [];
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  for (const connection of connections) await connection.stop();
  await redis.stop();
});

async function redisStore(name: DocumentName): Promise<DocumentStore> {
  const connection = new RedisConnections({
    target: { kind: "standalone", url: redis.url },
    errors: quietErrors,
    logger: quietLogger,
  });
  connections.push(connection);
  await connection.start();
  const store = new RedisDocumentStore(new Cells(connection), name);
  await store.start();
  return store;
}

const document = (historySize: number): { namespaces: { default: { historySize: number } } } => ({
  namespaces: { default: { historySize } },
});

const implementations: [string, () => Promise<[DocumentStore, DocumentStore]>][] = [
  [
    "memory",
    async () => {
      const store = new MemoryDocumentStore();
      return [store, store];
    },
  ],
  ["Redis", async () => [await redisStore("rules"), await redisStore("rules")]],
  // In the same Redis as the rules.
  ["Redis, another document", async () => [await redisStore("rollouts"), await redisStore("rollouts")]],
];

describe.each(implementations)("document store: %s", (_name, create) => {
  test("RULE-1: a change adds one to the version and notifies all; an equal document does neither", async () => {
    const [writer, reader] = await create();
    let told = 0;
    reader.onChange(() => told++);
    expect(await reader.read()).toBeUndefined();
    expect(await writer.put({ document: document(1), changedAt: 1_000 })).toEqual({
      kind: "stored",
      version: 1,
      changedAt: 1_000,
    });
    expect(await writer.put({ document: document(1), changedAt: 2_000 })).toEqual({
      kind: "unchanged",
      version: 1,
      changedAt: 1_000,
    });
    expect(await writer.put({ document: document(2), changedAt: 2_000 })).toEqual({
      kind: "stored",
      version: 2,
      changedAt: 2_000,
    });
    expect(await reader.read()).toEqual({ version: 2, changedAt: 2_000, document: document(2) });
    await eventually(() => told >= 2);

    expect(await writer.put({ document: document(3), changedAt: 3_000, ifVersion: 1 })).toEqual({
      kind: "version_differs",
      version: 2,
      changedAt: 2_000,
    });
    expect(await writer.put({ document: document(3), changedAt: 2_000, ifNewer: true })).toEqual({
      kind: "older",
      version: 2,
      changedAt: 2_000,
    });
    expect(await writer.put({ document: document(3), changedAt: 2_001, ifNewer: true, ifVersion: 2 })).toEqual({
      kind: "stored",
      version: 3,
      changedAt: 2_001,
    });
    // A clock that has stepped back makes no change older than the one that it replaces.
    expect(await writer.put({ document: document(4), changedAt: 1_000 })).toEqual({
      kind: "stored",
      version: 4,
      changedAt: 2_001,
    });
  });

  test("RULE-13: a document from a clock that is ahead does not count as newer than later ones", async () => {
    const [writer] = await create();
    const ahead = Date.now() + 3_600_000;
    const outcome = async (n: number, changedAt?: number): Promise<string> => {
      const made = changedAt === undefined ? {} : { changedAt, ifNewer: true };
      return (await writer.put({ document: document(n), ...made })).kind;
    };
    await outcome(1);
    await eventually(async () => (await outcome(2, ahead)) === "stored");
    expect((await writer.read())?.changedAt).toBeLessThanOrEqual(Date.now());
    expect(await outcome(3)).toBe("stored");
    await eventually(async () => (await outcome(4, ahead)) === "stored");
  });
});
