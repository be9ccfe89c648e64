#!lua flags=allow-oom
-- Deletes a dead letter.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 prefix of the slot's keys   2 sequence of the dead letter
-- Returns 1, or 0 where there is none.

redis.call('ZREM', ARGV[1] .. 'deadAt', ARGV[2])
return redis.call('HDEL', ARGV[1] .. 'dead', ARGV[2])
