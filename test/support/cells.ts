/** Two cells: Redis servers that share the slots of one deployment. */
import { formatCellMap, parseSlots } from "../../shared/redis/cell-map.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import type { CellTargets } from "../../shared/redis/target.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { quietLogger } from "./logger.ts";
import { type RedisServer, startRedis } from "./redis.ts";

export interface TwoCells {
  readonly targets: CellTargets;
  /** REDIS_CELLS */
  readonly setting: string;
  readonly a: RedisServer;
  readonly b: RedisServer;
  /** The stores of a process. They are stopped with the cells. */
  open(): Promise<Stores>;
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
    const owners = Array.from({ length: slotCount }, (_, slot) => (slots.has(slot) ? "b" : "a"));
    const store = new RedisDocumentStore(cells, "cells");
    await store.put({ document: formatCellMap({ owners, moves: [] }), changedAt: Date.now() });
    await cellMaps.refresh();
  }
  return {
    targets,
    setting: `a=${a.url},b=${b.url}`,
    a,
    b,
    open,
    stop: async () => {
      await Promise.all(opened.map((stores) => stores.stop()));
      await Promise.all([a.stop(), b.stop()]);
    },
  };
}
