/** One of two cells has sentinels. */
import { expect, test } from "vitest";
import { createStores } from "../../shared/program/stores.ts";
import { parseCells } from "../../shared/redis/settings.ts";
import { CellLoad } from "../support/cell-load.ts";
import { moveSlots, startMover } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";
import { asked } from "../support/redis-failover.ts";
import { startRedisSentinel } from "../support/redis-sentinel.ts";
import { startRedis } from "../support/redis.ts";

test("CELL-19: a cell with sentinels takes and gives slots, and fails over between and during moves", async () => {
  const [a, b] = await Promise.all([startRedis(), startRedisSentinel()]);
  const entries = [`a=${a.url}`, `b=redis+sentinel://${b.target.sentinels.join(";")}/${b.target.master}`];
  const stores = createStores(parseCells(entries), quietLogger);
  await stores.start();
  const mover = await startMover(stores);
  const load = new CellLoad(stores);
  await load.start();
  /** What is acknowledged is at the replica: a failover loses nothing then. */
  const failOver = async (): Promise<void> => {
    const former = await b.primary();
    await eventually(async () => (await asked(former, (client) => client.wait(1, 1_000))) >= 1);
    await former.kill();
    await b.promoted(former);
    await eventually(() => stores.cells?.all.get("b")?.state === "ok");
  };
  try {
    await load.round();
    await load.moveUnderLoad("b");
    await load.allDelivered();
    await failOver();
    await load.round();
    await load.moveUnderLoad("a");
    await b.whole();
    // The destination fails over while it gets copies: what the new primary lacks is copied again.
    await load.allDelivered();
    const moving = moveSlots(stores, "b", load.slots, { deadlineMs: 90_000 });
    await eventually(() => stores.cellMaps.map.moves.some(({ step }) => step === "preparing"));
    const former = await b.primary();
    await former.kill();
    await b.promoted(former);
    await moving;
    await load.round();
    await load.allDelivered();
    const { numbers } = load;
    for (const kept of await load.kept()) expect(kept).toEqual({ history: numbers, delivered: numbers });
    expect(load.owners).toEqual(new Set(["b"]));
  } finally {
    await load.stop();
    await mover.stop();
    await stores.stop();
    await Promise.all([a.stop(), b.stop()]);
  }
});
