#!lua flags=allow-oom
-- Abandons a holder.
-- KEYS  1 leases (sorted set: holder → Unix ms of expiry)   2 to be swept (sorted set: holder → Unix ms of its next pass)
-- ARGV  1 holder   2 ms until its lease expires; 0: swept and hidden at once
-- Returns 1.

if ARGV[2] == '0' then
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
  redis.call('ZREM', KEYS[1], ARGV[1])
  return 1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', now + ARGV[2]), ARGV[1])
return 1
