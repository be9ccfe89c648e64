#!lua flags=allow-oom
-- Counts a pass of the sweep over a holder.
-- KEYS  1 to be swept (sorted set: holder → Unix ms of its next pass)   2 passes (hash: holder → count)
--       3 last renewals (hash: holder → Unix ms)
-- ARGV  1 holder   2 number of passes after which the holder is removed
-- Returns 1 where the holder is removed, else 0.

if redis.call('HINCRBY', KEYS[2], ARGV[1], 1) < tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
