#!lua flags=allow-oom
-- Hands holders to one caller for a sweep: holders whose lease expired, and holders due for another pass.
-- KEYS  1 leases (sorted set: holder → Unix ms of expiry)   2 to be swept (sorted set: holder → Unix ms of its next pass)
--       3 last renewals (hash: holder to be swept → Unix ms)
-- ARGV  1 ms until the next pass, even if the caller does not finish   2 most holders   3 lease in ms
-- Returns {holder, Unix ms of its last renewal or '' where it was abandoned, …}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local nowText = string.format('%.0f', now)
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', nowText, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #expired, 2 do
  redis.call('ZREM', KEYS[1], expired[i])
  redis.call('ZADD', KEYS[2], nowText, expired[i])
  redis.call('HSET', KEYS[3], expired[i], string.format('%.0f', expired[i + 1] - ARGV[3]))
end
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', nowText, 'LIMIT', 0, ARGV[2])
local reply = {}
for _, holder in ipairs(due) do
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[1]), holder)
  reply[#reply + 1] = holder
  reply[#reply + 1] = redis.call('HGET', KEYS[3], holder) or ''
end
return reply
