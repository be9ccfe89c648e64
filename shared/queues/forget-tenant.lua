#!lua flags=allow-oom
-- Removes the mark of a tenant from slots that it has left: the fence of their cell refuses callers with an older map.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 tenant as in the names of queues   2 version of the mark   then the prefixes of the slots' keys
-- Returns how many were removed.

local count = 0
for at = 3, #ARGV do
  if redis.call('HGET', ARGV[at] .. 'left', ARGV[1]) == ARGV[2] then
    count = count + redis.call('HDEL', ARGV[at] .. 'left', ARGV[1])
  end
end
return count
