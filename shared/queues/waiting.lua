#!lua flags=no-writes
-- Counts items by tenant or by source, those in flight included.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 'depths' (by class:tenant) or 'sources'   2 number of fields   then the fields, then the prefixes of the slots' keys
-- Returns the count.

local name, last = ARGV[1], 2 + tonumber(ARGV[2])
local fields = {}
for at = 3, last do
  fields[#fields + 1] = ARGV[at]
end
local count = 0
for at = last + 1, #ARGV do
  for _, items in ipairs(redis.call('HMGET', ARGV[at] .. name, unpack(fields))) do
    count = count + tonumber(items or 0)
  end
end
return count
