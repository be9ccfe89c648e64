/** Two cells: Redis servers that share the slots of one deployment. */
import { CellMover } from "../../private-api/cells/mover.ts";
import { addMoves, movingSlots, takeSlots } from "../../private-api/cells/plan-moves.ts";
import { changeMap } from "../../shared/cells/change-map.ts";
import { formatCellMap, parseSlots } from "../../shared/redis/cell-map.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import type { CellTargets } from "../../shared/redis/target.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { eventually } from "./eventually.ts";
import { quietErrors, quietLogger } from "./logger.ts";
import { type RedisServer, startRedis } from "./redis.ts";

export interface TwoCells {
  readonly targets: CellTargets;
  /** REDIS_CELLS */
  readonly setting: string;
  readonly a: RedisServer;
  readonly b: RedisServer;
  /** The stores of a process. They are stopped with the cells. */
  open(): Promise<Stores>;
  /** From now on slots move all the time, to the one cell and back to the other. @returns ends that; so does the end of the cells. */
  keepMoving(): Promise<() => Promise<void>>;
  stop(): Promise<void>;
}

/** @param ofB slots that cell b owns from the start, as in `128-255`. */
export async function startTwoCells(ofB = ""): Promise<TwoCells> {
  const [a, b] = await Promise.all([startRedis(), startRedis()]);
  const targets: CellTargets = new Map([
    ["a", { kind: "standalone", url: a.url }],
    ["b", { kind: "standalone", url: b.url }],
  ]);
  const opened: Stores[] = [];
  const moving: (() => Promise<void>)[] = [];
  const open = async (): Promise<Stores> => {
    const stores = createStores(targets, quietLogger);
    opened.push(stores);
    await stores.start();
    return stores;
  };
  if (ofB !== "") {
    const { cells, cellMaps } = await open();
    if (!cells) throw new Error("there are no cells");
    const slots = new Set(parseSlots(ofB));
    const owners = everySlot.map((slot) => (slots.has(slot) ? "b" : "a"));
    const store = new RedisDocumentStore(cells, "cells");
    await store.put({ document: formatCellMap({ owners, moves: [], pins: new Map() }), changedAt: Date.now() });
    await cellMaps.refresh();
  }
  return {
    targets,
    setting: `a=${a.url},b=${b.url}`,
    a,
    b,
    open,
    keepMoving: async () => {
      const stop = await keepMoving(await open());
      moving.push(stop);
      return stop;
    },
    stop: async () => {
      for (const stop of moving) await stop();
      await Promise.all(opened.map((stores) => stores.stop()));
      await Promise.all([a.stop(), b.stop()]);
    },
  };
}

/** Moves slots as a private API does. The caller stops it, before the cells. */
export async function startMover(
  { cells, cellMaps }: Stores,
  onClosed: (pausedMs: number) => void = () => undefined,
): Promise<CellMover> {
  if (!cells) throw new Error("there are no cells");
  const mover = new CellMover({ cells, maps: cellMaps, onClosed, errors: quietErrors, logger: quietLogger });
  await mover.start();
  return mover;
}

/** Leaves out slots that move already. Resolves once no slot moves any more, or `until` holds. */
export async function moveSlots(
  { cellMaps }: Stores,
  to: string,
  slots: readonly number[],
  { until = () => false, deadlineMs }: { until?: () => boolean; deadlineMs?: number } = {},
): Promise<void> {
  await changeMap(cellMaps, (map) => {
    const moving = movingSlots(map);
    const free = slots.filter((slot) => !moving.has(slot));
    return addMoves(map, takeSlots(map, to, free), Date.now());
  });
  await eventually(async () => until() || (await cellMaps.refresh()).moves.length === 0, deadlineMs);
}

/** @returns stops it. */
async function keepMoving(stores: Stores): Promise<() => Promise<void>> {
  const mover = await startMover(stores);
  let stopped = false;
  const moving = (async () => {
    for (let turn = 0; !stopped; turn++) {
      const to = turn % 2 === 0 ? "b" : "a";
      await moveSlots(stores, to, everySlot, { until: () => stopped, deadlineMs: Infinity });
    }
  })();
  return async () => {
    stopped = true;
    await moving;
    await mover.stop();
  };
}
