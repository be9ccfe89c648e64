#!lua flags=allow-oom
-- Stores the load of a dispatcher, and removes dispatchers that are gone.
-- KEYS  1 reports (hash: instance → 'heard busy oldestMs growth')
-- ARGV  1 instance   2 'busy oldestMs growth'   3 ms after which a silent dispatcher is gone

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reports = redis.call('HGETALL', KEYS[1])
for at = 1, #reports, 2 do
  local heard = tonumber(string.match(reports[at + 1], '^%d+'))
  -- A report from the future was written before the clock was set back.
  if heard <= now - ARGV[3] or heard > now then
    redis.call('HDEL', KEYS[1], reports[at])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
