/** One of two cells has sentinels. */
import { expect, test } from "vitest";
import type { QueueName } from "../../shared/queues/contract.ts";
import { createStores } from "../../shared/program/stores.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { parseCells } from "../../shared/redis/settings.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { moveSlots, startMover } from "../support/cells.ts";
import { dispatcherOf, numberedItem } from "../support/dispatcher.ts";
import { eventually } from "../support/eventually.ts";
import { quietLogger } from "../support/logger.ts";
import { asked } from "../support/redis-failover.ts";
import { startRedisSentinel } from "../support/redis-sentinel.ts";
import { startRedis } from "../support/redis.ts";

const retention = { historySize: 100_000, historySeconds: 300 };

test("CELL-19: a cell with sentinels takes and gives slots, and fails over between and during moves", async () => {
  const [a, b] = await Promise.all([startRedis(), startRedisSentinel()]);
  const entries = [`a=${a.url}`, `b=redis+sentinel://${b.target.sentinels.join(";")}/${b.target.master}`];
  const stores = createStores(parseCells(entries), quietLogger);
  await stores.start();
  const mover = await startMover(stores);
  const delivered = new Map<string, number[]>();
  const dispatcher = dispatcherOf(stores.queues, ({ body, headers }) => {
    const key = headers["ce-partitionkey"] ?? "";
    delivered.set(key, [...(delivered.get(key) ?? []), Number(body)]);
  });
  await dispatcher.start();
  const channels = Array.from({ length: 8 }, (_, at) => `board:${at}`);
  const queues: QueueName[] = channels.map((key) => ({ service: "documents", tenant: "", key }));
  const slots = [...new Set([...channels.map(slotOf), ...queues.map(slotOfQueue)])];
  let published = 0;
  /** One publication for each channel, one item for each queue. */
  const round = async (): Promise<void> => {
    published++;
    const publishing = channels.map(async (channel) =>
      stores.broker.publish({ channel, event: "e", data: String(published), retention }),
    );
    await Promise.all([
      ...publishing,
      ...queues.map(async (queue) => stores.queues.enqueue(numberedItem(queue, published))),
    ]);
  };
  const moveUnderLoad = async (to: string): Promise<void> => {
    let moved = false;
    await Promise.all([
      moveSlots(stores, to, slots, { deadlineMs: 60_000 }).finally(() => (moved = true)),
      (async () => {
        while (!moved) await round();
      })(),
    ]);
  };
  /** What is acknowledged is at the replica: a failover loses nothing then. */
  const failOver = async (): Promise<void> => {
    const former = await b.primary();
    await asked(former, async (client) => client.wait(1, 5_000));
    await former.kill();
    await b.promoted(former);
    await eventually(() => stores.cells?.all.get("b")?.state === "ok");
  };
  try {
    await round();
    await moveUnderLoad("b");
    await eventually(() => [...delivered.values()].every((own) => own.length === published));
    await failOver();
    await round();
    await moveUnderLoad("a");
    await b.whole();
    // The destination fails over while it gets copies: what the new primary lacks is copied again.
    await eventually(() => [...delivered.values()].every((own) => own.length === published));
    const moving = moveSlots(stores, "b", slots, { deadlineMs: 90_000 });
    await eventually(() => stores.cellMaps.map.moves.some(({ step }) => step === "preparing"));
    const former = await b.primary();
    await former.kill();
    await b.promoted(former);
    await moving;
    await round();
    await eventually(() => [...delivered.values()].every((own) => own.length === published));
    const all = Array.from({ length: published }, (_, at) => at + 1);
    for (const channel of channels) {
      const history = await stores.broker.readHistory({ channel, retention, limit: 100_000, maxBytes: 1 << 30 });
      expect(history.publications.map(({ data }) => Number(data))).toEqual(all);
      expect(delivered.get(channel)).toEqual(all);
    }
    expect(new Set(slots.map((slot) => stores.cellMaps.map.owners[slot]))).toEqual(new Set(["b"]));
  } finally {
    await dispatcher.stop();
    await mover.stop();
    await stores.stop();
    await Promise.all([a.stop(), b.stop()]);
  }
}, 180_000);
