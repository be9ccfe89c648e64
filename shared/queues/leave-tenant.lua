#!lua flags=allow-oom
-- Marks slots whose new queues of a tenant are elsewhere, and counts the items of the tenant that are left.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 tenant as in the names of queues   2 version of the map that began the newer place   then the prefixes of the slots' keys
-- Returns the count.

local ending = ':' .. ARGV[1]
local count = 0
for at = 3, #ARGV do
  local known = redis.call('HGET', ARGV[at] .. 'left', ARGV[1])
  if not known or tonumber(known) < tonumber(ARGV[2]) then
    redis.call('HSET', ARGV[at] .. 'left', ARGV[1], ARGV[2])
  end
  local depths = redis.call('HGETALL', ARGV[at] .. 'depths')
  for field = 1, #depths, 2 do
    if string.sub(depths[field], -#ending) == ending then
      count = count + tonumber(depths[field + 1])
    end
  end
end
return count
