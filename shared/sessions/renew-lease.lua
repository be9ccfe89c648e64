#!lua flags=allow-oom
-- Renews the lease of a holder.
-- KEYS  1 leases (sorted set: holder → Unix ms of expiry)
-- ARGV  1 holder   2 lease in ms   3 1 for a new holder, else 0
-- Returns {1, or 0 for an unknown holder; now in Unix ms}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nowText = string.format('%.0f', now)
if ARGV[3] == '0' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return { 0, nowText }
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
return { 1, nowText }
