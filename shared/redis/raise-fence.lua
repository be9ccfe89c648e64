#!lua flags=allow-oom
-- Raises the fence of a cell: calls that know an older map are refused from now on.
-- KEYS  1 fence (string: version)
-- ARGV  1 version
-- Returns the version of the fence as text.

local least = redis.call('GET', KEYS[1])
if not least or tonumber(least) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return least
