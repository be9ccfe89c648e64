#!lua flags=allow-oom
-- Stores the report of a process, and removes processes that are gone.
-- KEYS  1 reports (hash: instance → Unix ms when it was heard, and its report)
-- ARGV  1 instance   2 report, one line   3 ms after which a silent process is gone

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
