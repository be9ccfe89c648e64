/** A hash slot that moves so slowly that the Redis client runs out of redirections. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import {
  beginSlotMove,
  command,
  hashSlotOf,
  ownerOf,
  type RedisCluster,
  startRedisCluster,
} from "../support/redis-cluster.ts";

/** Of the client, of one pipeline. */
const redirections = 16;
const keys = ["{moving}:first", "{moving}:second"] as const;
const slot = hashSlotOf("moving");

let cluster: RedisCluster;
let connections: RedisConnections;
beforeAll(async () => {
  cluster = await startRedisCluster();
  connections = new RedisConnections({ target: cluster.target, errors: quietErrors, logger: quietLogger });
  await connections.start();
});
afterAll(async () => {
  await connections.stop();
  await cluster.stop();
});

test("CLU-1: a command of a slot that moves slowly gets its reply, and ends no process", async () => {
  await connections.run("mset", keys[0], "1", keys[1], "2");
  const { owner } = await ownerOf(cluster, slot);
  const move = await beginSlotMove(cluster, slot);
  // One key is on each server: neither answers for both.
  await move.moveKeys([keys[1]]);
  const read = connections.run("mget", ...keys);
  // The next redirection is the first one that the client does not count, and an ASK.
  await eventually(async () => {
    const errors = String(await command(owner.primary, "INFO", "errorstats"));
    return Number(/errorstat_TRYAGAIN:count=(\d+)/.exec(errors)?.[1]) >= redirections;
  });
  await move.moveKeys([keys[0]]);
  expect(await read).toEqual(["1", "2"]);
  await move.end();
});
