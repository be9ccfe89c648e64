#!lua flags=allow-oom
-- Extends or ends leases on reading the change logs of slots, or shards of SQL sources.
-- KEYS  1 and 2 see scriptKeys; of a shard see shardKeys
-- ARGV  1 lease ms; 0 ends the leases   then for each lease: name of the log or shard, fencing token
-- Returns for each lease 1, or 0 where it had ended before.
-- include lease.part.lua

local replies = {}
for at = 2, #ARGV, 2 do
  local isHeld = isLeaseHeld(ARGV[at], ARGV[at + 1])
  if isHeld then
    redis.call('HSET', ARGV[at] .. ':reader', 'until', string.format('%.0f', now + ARGV[1]))
  end
  replies[#replies + 1] = isHeld and 1 or 0
end
return replies
