/** The Redis servers of order schedules, and the faults of each kind. */
import { startRedis } from "../../test/support/redis.ts";
import { beginSlotMove, hashSlotOf, type RedisCluster } from "../../test/support/redis-cluster.ts";
import type { Servers } from "../checker/schedule-deployment.ts";
import { type Fault, lasts } from "../checker/schedule-faults.ts";
import { type ScheduleRedis, startScheduleCluster, startScheduleSentinel } from "../checker/schedule-redis.ts";
import type { ArenaKind } from "../checker/schedule-series.ts";
import { type CellMoves, slotMoves } from "./cells.ts";
import { cellRestart, redisAway, redisRestart } from "./faults.ts";

export type OrderArenaKind = ArenaKind | "cells";

interface ArenaRedis extends Servers {
  readonly settings: Readonly<Record<string, string>>;
  /** Its own faults. */
  readonly faults: (affected: Pick<CellMoves, "slots" | "api" | "onMoved">) => readonly Fault[];
}

const movedHashSlots = 4;
const movedSlowly = 3;
const cells = ["a", "b"] as const;

export async function startArenaRedis(kind: OrderArenaKind): Promise<ArenaRedis> {
  switch (kind) {
    case "standalone": {
      const redis = await startRedis({ appendOnly: true });
      const faults = [redisRestart(redis), redisAway(redis)];
      return { settings: { REDIS_URL: redis.url }, faults: () => faults, stop: async () => redis.stop() };
    }
    case "sentinel": {
      const redis = await startScheduleSentinel();
      return { ...redis, faults: () => redis.faults };
    }
    case "cluster": {
      const { cluster, ...redis } = await startScheduleCluster();
      return { ...redis, faults: ({ slots }) => [...redis.faults, hashSlotMoves(cluster, redis, slots)] };
    }
    case "cells": {
      const servers = await Promise.all(cells.map(async () => startRedis({ appendOnly: true })));
      const map = {};
      return {
        settings: { REDIS_CELLS: cells.map((cell, at) => `${cell}=${servers[at]?.url}`).join(",") },
        faults: (affected) => [...slotMoves({ cells, map, ...affected }), cellRestart(servers)],
        stop: async () => {
          await Promise.all(servers.map(async (server) => server.stop()));
        },
      };
    }
  }
}

function hashSlotMoves(
  cluster: RedisCluster,
  { whole }: Pick<ScheduleRedis, "whole">,
  slots: readonly number[],
): Fault {
  return {
    kind: "Cluster slots moved",
    targets: [cluster],
    run: async (_, random, signal) => {
      await whole();
      for (let n = 0; n < movedHashSlots; n++) {
        const move = await beginSlotMove(cluster, hashSlotOf(String(random.pick(slots))));
        // One key at a time in the beginning, so that scripts find what they need on two servers.
        for (let key = 0; key < movedSlowly; key++) {
          await move.moveKeys(await move.keys(1));
          await lasts(random.between(0, 300), signal);
        }
        for (let keys = await move.keys(100); keys.length > 0; keys = await move.keys(100)) await move.moveKeys(keys);
        await move.end();
      }
      await whole();
    },
  };
}
