#!lua flags=allow-oom
-- Runs one command, so that the fence of a cell holds for it, too.
-- KEYS  1 first argument of the command
-- ARGV  1 command   then its further arguments
-- Returns its reply.

return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
