#!lua flags=no-writes
-- Counts the items of one tenant, those in flight included.
-- KEYS  1 a name in the slot of the first prefix
-- ARGV  1 tenant   2 number of classes   then the classes, then the prefixes of the slots' keys
-- Returns the count.

local classes = tonumber(ARGV[2])
local fields = {}
for at = 3, 2 + classes do
  fields[#fields + 1] = ARGV[at] .. ':' .. ARGV[1]
end
local count = 0
for at = 3 + classes, #ARGV do
  for _, items in ipairs(redis.call('HMGET', ARGV[at] .. 'depths', unpack(fields))) do
    count = count + tonumber(items or 0)
  end
end
return count
