#!lua flags=allow-oom
-- A holder was swept once more.
-- KEYS  1 to be swept (sorted set: holder → Unix ms of its next pass)   2 passes (hash: holder → how many)
-- ARGV  1 holder   2 passes after which it is forgotten
-- Returns 1 where it is forgotten, else 0.

if redis.call('HINCRBY', KEYS[2], ARGV[1], 1) < tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
