import { slotTagOf } from "../channels/keys.ts";

/**
 * Everything of a shard begins with its name:
 *
 *     sql:NAME          hash      progress, status; see save-shard.lua
 *     sql:NAME:reader   hash      holder, fence, until: the lease on reading
 *     sql:NAME:none     none      makes a cluster refuse a script while the hash slot moves
 */
export function shardKeys(root: string, shard: string): [key: string, none: string] {
  const key = `${slotTagOf(root, shard)}:sql:${shard}`;
  return [key, `${key}:none`];
}
