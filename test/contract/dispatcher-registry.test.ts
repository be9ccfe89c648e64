/** What every implementation of DispatcherRegistry does. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DispatcherRegistry, reportLastsMs } from "../../shared/dispatchers/contract.ts";
import { MemoryDispatcherRegistry } from "../../shared/dispatchers/memory.ts";
import { RedisDispatcherRegistry } from "../../shared/dispatchers/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let connections: RedisConnections;
beforeAll(async () => {
  redis = await startRedis();
  connections = new RedisConnections({
    target: { kind: "standalone", url: redis.url },
    errors: quietErrors,
    logger: quietLogger,
  });
  await connections.start();
});
afterAll(async () => {
  await connections.stop();
  await redis.stop();
});

const one = { busy: 0.5, oldestMs: 1_200, growth: -0.25 };
const two = { busy: 1.25, oldestMs: 0, growth: 1 };

const registries: readonly [string, () => DispatcherRegistry][] = [
  ["memory", () => new MemoryDispatcherRegistry()],
  ["Redis", () => new RedisDispatcherRegistry(new Cells(connections))],
];

describe.each(registries)("dispatcher registry: %s", (_name, create) => {
  test("LOAD-7: every process knows the load of each dispatcher, until it leaves", async () => {
    const registry = create();
    await registry.report("a", two);
    await registry.report("b", two);
    await registry.report("a", one);
    const loads = await registry.loads();
    expect(loads).toHaveLength(2);
    expect(loads).toEqual(expect.arrayContaining([one, two]));
    await registry.leave("b");
    expect(await registry.loads()).toEqual([one]);
    await registry.leave("a");
    expect(await registry.loads()).toEqual([]);
  });
});

test("LOAD-7: a dispatcher that stops reporting is gone after five seconds, and is forgotten", async () => {
  const registry = new RedisDispatcherRegistry(new Cells(connections));
  await registry.report("killed", one);
  await eventually(async () => (await registry.loads()).length === 0, reportLastsMs + 5_000);
  await registry.report("alive", two);
  expect(await connections.run<string[]>("hkeys", "tidegate:{dispatchers}")).toEqual(["alive"]);
});
