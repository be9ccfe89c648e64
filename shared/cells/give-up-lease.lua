#!lua flags=allow-oom
-- Ends a lease where the instance still has it.
-- KEYS  1 lease (string: instance)
-- ARGV  1 instance
-- Returns 1, or 0 where it had ended, or another instance has it.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
