#!lua
-- Takes leases on reading the change logs of slots.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  1 holder   2 lease ms   then for each slot: its log
-- Returns for each slot the fencing token, or 0 where another holder has the lease.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local replies = {}
for index = 3, #ARGV do
  local reader = ARGV[index] .. ':reader'
  local lease = redis.call('HMGET', reader, 'holder', 'until')
  if lease[1] and lease[1] ~= ARGV[1] and tonumber(lease[2]) > now then
    replies[#replies + 1] = 0
  else
    -- Grows also where the lease of before was lost with its Redis.
    local fence = math.max(tonumber(redis.call('HGET', reader, 'fence') or '0') + 1, now)
    redis.call('HSET', reader, 'holder', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'fence', string.format('%.0f', fence))
    replies[#replies + 1] = fence
  end
end
return replies
