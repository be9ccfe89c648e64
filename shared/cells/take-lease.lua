#!lua flags=allow-oom
-- Takes or renews a lease that one process has at a time.
-- KEYS  1 lease (string: instance)
-- ARGV  1 instance   2 ms
-- Returns 1, or 0 where another instance has it.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
