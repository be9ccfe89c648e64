/** One of two cells is a Redis Cluster. */
import { expect, test } from "vitest";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { parseCells } from "../../shared/redis/settings.ts";
import { CellLoad } from "../support/cell-load.ts";
import { moveSlots, startMover } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";
import { beginSlotMove, hashSlotOf, ownerOf, type RedisCluster, startRedisCluster } from "../support/redis-cluster.ts";
import { asked } from "../support/redis-failover.ts";
import { startRedis } from "../support/redis.ts";

/** The primary of a slot dies, and its replica takes over. What is acknowledged is at the replica. */
async function failOver(cluster: RedisCluster, stores: Stores, slot: number): Promise<void> {
  const { owner } = await ownerOf(cluster, hashSlotOf(String(slot)));
  await eventually(async () => (await asked(owner.primary, (client) => client.wait(1, 1_000))) === 1);
  await owner.primary.kill();
  await eventually(async () => (await cluster.shards()).some(({ primary }) => owner.replicas.includes(primary)));
  await eventually(() => stores.cells?.all.get("b")?.state === "ok");
  await owner.primary.restart();
  await eventually(async () => (await cluster.shards()).every(({ replicas }) => replicas.length === 1));
}

test("CELL-22: a cluster takes and gives slots while primaries die and hash slots move", async () => {
  const [a, cluster] = await Promise.all([startRedis(), startRedisCluster({ replicas: 1 })]);
  const hosts = cluster.servers.map(({ url }) => new URL(url).host);
  const targets = parseCells([`a=${a.url}`, `b=redis+cluster://${hosts.join(";")}`]);
  const stores = createStores(targets, quietLogger);
  await stores.start();
  const mover = await startMover(stores);
  const load = new CellLoad(stores);
  await load.start();
  const [slot = 0] = load.slots;
  try {
    await load.round();
    await load.moveUnderLoad("b");
    await load.allDelivered();
    await failOver(cluster, stores, slot);
    await load.round();
    // Another process knows where everything is.
    const another = createStores(targets, quietLogger);
    await another.start();
    const [queue] = load.queues;
    if (!queue) throw new Error("there is no queue");
    const item = { queue, class: "messages", head: "{}", data: "0", dedupeId: "known" };
    expect(await another.queues.wasStored(item)).toBe(false);
    await another.stop();
    await load.moveUnderLoad("a");
    await load.allDelivered();
    // A primary of the destination dies while it gets copies: what the new one lacks is copied again.
    const moving = moveSlots(stores, "b", load.slots, { deadlineMs: 90_000 });
    await eventually(() => stores.cellMaps.map.moves.some(({ step }) => step === "preparing"));
    await failOver(cluster, stores, slot);
    await moving;
    expect(load.owners).toEqual(new Set(["b"]));
    await load.round();
    // A hash slot of the source changes its primary meanwhile.
    const leaving = moveSlots(stores, "a", load.slots, { deadlineMs: 90_000 });
    await eventually(() => stores.cellMaps.map.moves.some(({ step }) => step === "preparing"));
    const shift = await beginSlotMove(cluster, hashSlotOf(String(slot)));
    for (let keys = await shift.keys(100); keys.length > 0; keys = await shift.keys(100)) await shift.moveKeys(keys);
    await shift.end();
    await leaving;
    await load.round();
    await load.allDelivered();
    const { numbers } = load;
    for (const kept of await load.kept()) expect(kept).toEqual({ history: numbers, delivered: numbers });
    expect(load.owners).toEqual(new Set(["a"]));
  } finally {
    await load.stop();
    await mover.stop();
    await stores.stop();
    await Promise.all([a.stop(), cluster.stop()]);
  }
});
