#!lua flags=allow-oom
-- Hands holders to one caller for a sweep: holders whose lease expired, and holders due for another pass.
-- KEYS  1 leases (sorted set: holder → Unix ms of expiry)   2 to be swept (sorted set: holder → Unix ms of its next pass)
-- ARGV  1 ms until the next pass, even if the caller does not finish   2 most holders
-- Returns the holders.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nowText = string.format('%.0f', now)
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', nowText, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZREM', KEYS[1], holder)
  redis.call('ZADD', KEYS[2], nowText, holder)
end
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', nowText, 'LIMIT', 0, ARGV[2])
for _, holder in ipairs(due) do
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[1]), holder)
end
return due
