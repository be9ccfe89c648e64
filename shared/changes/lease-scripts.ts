/** Leases on reading: a slot's change log, or a shard of a SQL source. Each lease is a hash, see changeKeys and shardKeys. */
import { script } from "../redis/scripts.ts";

/** Returns for each the fencing token, or 0. */
export const takeLeasesScript = script<number[]>(new URL("take-readers.lua", import.meta.url), 2);
export const extendLeasesScript = script<(0 | 1)[]>(new URL("extend-readers.lua", import.meta.url), 2);
