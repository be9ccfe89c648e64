import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  answerWithinMs,
  type Inventory,
  type InventoryAnswers,
  type InventoryQuestion,
} from "../../shared/inventory/contract.ts";
import { MemoryInventory } from "../../shared/inventory/memory.ts";
import { RedisInventory } from "../../shared/inventory/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import type { RedisTarget } from "../../shared/redis/target.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let cluster: Awaited<ReturnType<typeof startRedisCluster>>;
const opened: RedisConnections[] = [];
beforeAll(async () => {
  [redis, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(async () => {
  await Promise.all(opened.map((connections) => connections.stop()));
  await Promise.all([redis.stop(), cluster.stop()]);
});

async function onRedis(target: RedisTarget): Promise<[Inventory, Inventory]> {
  const open = async (): Promise<Inventory> => {
    const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
    await connections.start();
    opened.push(connections);
    return new RedisInventory(new Cells(connections), quietLogger);
  };
  return [await open(), await open()];
}

const inMemory = new MemoryInventory();
const question: InventoryQuestion = { kind: "users", after: "a", limit: 3 };

describe.each<[string, () => Promise<[Inventory, Inventory]>]>([
  ["memory", async () => [inMemory, inMemory]],
  ["Redis", async () => onRedis({ kind: "standalone", url: redis.url })],
  ["a Redis Cluster", async () => onRedis(cluster.target)],
])("the inventory in %s", (_, open) => {
  test("LIST-1: every node that is asked answers for itself, until it ends", async () => {
    const [here, there] = await open();
    const asked: InventoryQuestion[] = [];
    const ends = [
      await here.serve("one", async (given) => {
        asked.push(given);
        return [{ id: "b", count: 1 }];
      }),
      await there.serve("two", async () => [{ id: "c", count: 2, user: "c", tenant: "t", connectedAt: 5 }]),
      await there.serve("three", async () => [{ id: "d", count: 3 }]),
    ];
    let answers: InventoryAnswers = new Map();
    // On a machine that stands still for a moment an answer may come too late.
    await eventually(async () => {
      answers = await here.ask(question, new Set(["one", "two"]));
      return answers.size === 2;
    });
    expect(answers).toEqual(
      new Map([
        ["one", [{ id: "b", count: 1 }]],
        ["two", [{ id: "c", count: 2, user: "c", tenant: "t", connectedAt: 5 }]],
      ]),
    );
    expect(asked.at(-1)).toEqual(question);
    for (const end of ends) end();
    expect(await here.ask(question, new Set())).toEqual(new Map());
    const began = performance.now();
    expect(await here.ask(question, new Set(["one"]))).toEqual(new Map());
    expect(performance.now() - began).toBeLessThan(answerWithinMs + 5_000);
  });
});
