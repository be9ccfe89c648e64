#!lua
-- Takes leases on reading the change logs of slots, or shards of SQL sources.
-- KEYS  1 and 2 see scriptKeys; of a shard see shardKeys
-- ARGV  1 holder   2 lease ms   then the name of each log or shard
-- Returns for each the fencing token, or 0 where another holder has the lease.
-- include lease.part.lua

local replies = {}
for index = 3, #ARGV do
  local reader = ARGV[index] .. ':reader'
  local lease = redis.call('HMGET', reader, 'holder', 'until')
  -- Refused even if the lease has ended because its Redis was restarted or replaced: its holder takes the slot again first, and knows what it has read.
  if lease[1] and lease[1] ~= ARGV[1] and tonumber(lease[2]) > now then
    replies[#replies + 1] = 0
  else
    -- Grows even if Redis has lost the previous lease.
    local fence = math.max(tonumber(redis.call('HGET', reader, 'fence') or '0') + 1, now)
    redis.call('HSET', reader, 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'fence', string.format('%.0f', fence),
      'replid', replid)
    replies[#replies + 1] = fence
  end
end
return replies
