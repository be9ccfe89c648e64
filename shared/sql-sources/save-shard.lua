#!lua
-- Saves the progress or the status of a shard, while its lease is held.
-- KEYS  1 shard (hash: progress, status; fence, count: of the last call)   2 see shardKeys
-- ARGV  1 fencing token   2 number of the call, grows under a lease   then names and values
-- Returns 1, or 0 where the lease had ended, or a later call came first.
-- include ../changes/lease.part.lua

if not isLeaseHeld(KEYS[1], ARGV[1]) then
  return 0
end
local last = redis.call('HMGET', KEYS[1], 'fence', 'count')
if last[1] == ARGV[1] and tonumber(last[2]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'count', ARGV[2], unpack(ARGV, 3))
return 1
