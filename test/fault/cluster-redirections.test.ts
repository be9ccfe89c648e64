/** The client of a Redis Cluster while a hash slot moves slowly, while a part has no primary, and while it connects. */
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
import type { RedisServer } from "../support/redis.ts";

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

test("CLU-4: a cluster that is down refuses a command at once, and holds none behind it", async () => {
  const { owner, other } = await ownerOf(cluster, hashSlotOf("down"));
  const infoOf = async (...words: [string, ...string[]]): Promise<string> =>
    String(await command(owner.primary, ...words));
  await other.primary.kill();
  await eventually(async () => (await infoOf("CLUSTER", "INFO")).includes("cluster_state:fail"));
  await expect(connections.run("get", "{down}:key")).rejects.toThrow("a part of the cluster has no primary");
  // Probes of the connections may be among them.
  const refused = /errorstat_CLUSTERDOWN:count=(\d+)/.exec(await infoOf("INFO", "errorstats"))?.[1];
  expect(Number(refused)).toBeLessThan(redirections / 2);
});

test("CLU-5: a command gets its own reply while a primary is gone and another one connects", async () => {
  const started = await startRedisCluster();
  const client = new RedisConnections({ target: started.target, errors: quietErrors, logger: quietLogger });
  try {
    await client.start();
    const [gone, hangs, serves] = await started.shards();
    if (!gone || !hangs || !serves) throw new Error("the cluster has fewer than three primaries");
    const tags = new Map<RedisServer, string>();
    for (let at = 0; tags.size < 3; at++) {
      const { owner } = await ownerOf(started, hashSlotOf(`tag-${at}`));
      if (!tags.has(owner.primary)) tags.set(owner.primary, `{tag-${at}}`);
    }
    const [goneTag, hangsTag, servesTag] = [gone, hangs, serves].map(({ primary }) => tags.get(primary) ?? "");
    // It is the only one of three that answers, and should go on.
    await command(serves.primary, "CONFIG", "SET", "cluster-allow-reads-when-down", "yes");
    const numbers = Array.from({ length: 5 }, (_, at) => String(at));
    for (const at of numbers) await client.run("set", `${servesTag}:${at}`, at);
    await gone.primary.kill();
    await command(hangs.primary, "CLIENT", "KILL", "TYPE", "normal");
    hangs.primary.signal("SIGSTOP");
    const refused = async (tag = ""): Promise<unknown> => client.run("get", `${tag}:key`).catch(() => undefined);
    for (let round = 0; round < 40; round++) {
      const others = [refused(hangsTag), ...Array.from({ length: 20 }, async () => refused(goneTag))];
      expect(await Promise.all(numbers.map(async (at) => client.run("get", `${servesTag}:${at}`)))).toEqual(numbers);
      await Promise.race(others);
    }
  } finally {
    await client.stop();
    await started.stop();
  }
});
