/** Resources that processes still use when no input runs: memory, sessions, queues, descriptors. */
import { setTimeout as pause } from "node:timers/promises";
import type { Arena, ArenaName, Resources } from "./arena.ts";
import { Inspector } from "./inspector.ts";

/** Pings end abandoned polling sessions; idle connections close after 65 s. */
const freeWithinMs = 90_000;
/** Keep-alive connections, some of which did not exist before the first request. */
const spareDescriptors = 12;

export interface MemoryGrowth {
  readonly arena: string;
  readonly process: string;
  /** In use after a full collection. */
  readonly heapBytes: readonly [before: number, after: number];
  readonly rssBytes: readonly [before: number, after: number];
}

export interface Memory {
  readonly arena: string;
  readonly process: string;
  readonly pid: number | undefined;
  readonly heapBytes: number;
  readonly rssBytes: number;
}

export async function memoryOf(arenas: readonly Arena[]): Promise<Memory[]> {
  const memories: Memory[] = [];
  for (const { name, watches } of arenas) {
    for (const watch of watches) {
      const { role, pid } = watch.server;
      const inspector = await Inspector.attach(watch.server);
      const heapBytes = await inspector.heapAfterCollection();
      inspector.close();
      memories.push({ arena: name, process: role, pid, heapBytes, rssBytes: watch.rssBytes });
    }
  }
  return memories;
}

/** Growth of the processes that ran from the first measurement to the second. */
export function growthOf(before: readonly Memory[], after: readonly Memory[]): MemoryGrowth[] {
  return before.flatMap((then) => {
    const now = after.find(({ arena, pid }) => arena === then.arena && pid === then.pid);
    if (!now) return [];
    const { arena, process } = then;
    return [{ arena, process, heapBytes: [then.heapBytes, now.heapBytes], rssBytes: [then.rssBytes, now.rssBytes] }];
  });
}

export async function resourcesOf(arenas: readonly Arena[]): Promise<ReadonlyMap<ArenaName, Resources>> {
  const all = new Map<ArenaName, Resources>();
  for (const arena of arenas) all.set(arena.name, await arena.resources());
  return all;
}

/** Waits until every resource is free again. @returns those that are not. */
export async function leftovers(
  arenas: readonly Arena[],
  before: ReadonlyMap<ArenaName, Resources>,
  signal?: AbortSignal,
): Promise<string[]> {
  const deadline = performance.now() + freeWithinMs;
  for (;;) {
    const now = await resourcesOf(arenas);
    const left = [...before].flatMap(([arena, resources]) => different(arena, resources, now.get(arena) ?? {}));
    if (left.length === 0 || performance.now() > deadline || signal?.aborted) return left;
    await pause(250);
  }
}

function different(arena: string, before: Resources, now: Resources): string[] {
  return Object.entries(before).flatMap(([name, count]) => {
    const spare = name.endsWith("descriptors") ? spareDescriptors : 0;
    const present = now[name] ?? Number.NaN;
    return present <= count + spare ? [] : [`${arena}: ${name} ${count} → ${present}`];
  });
}
