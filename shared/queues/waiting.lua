#!lua flags=no-writes
-- Counts items by tenant or by source, those in flight included.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 'depths' (by class:tenant) or 'sources'   2 number of fields   then the fields, then the prefixes of the slots' keys
-- Returns the count of each field.

local name, last = ARGV[1], 2 + tonumber(ARGV[2])
local fields, counts = {}, {}
for at = 3, last do
  fields[#fields + 1] = ARGV[at]
  counts[#counts + 1] = 0
end
for at = last + 1, #ARGV do
  -- Most slots have none: to ask for each field there would take most of the time.
  if redis.call('EXISTS', ARGV[at] .. name) == 1 then
    for index, items in ipairs(redis.call('HMGET', ARGV[at] .. name, unpack(fields))) do
      counts[index] = counts[index] + tonumber(items or 0)
    end
  end
end
return counts
