#!lua flags=allow-oom
-- Deletes a dead letter.
-- KEYS  1 a name in the slot
-- ARGV  1 prefix of the slot's keys   2 sequence of the dead letter
-- Returns 1, or 0 where there is none.

redis.call('ZREM', ARGV[1] .. 'deadAt', ARGV[2])
return redis.call('HDEL', ARGV[1] .. 'dead', ARGV[2])
