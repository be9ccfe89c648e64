#!lua flags=no-writes
-- Reads a part of a list with two elements for each item, the first of which begins with a growing number.
-- KEYS  1 list
-- ARGV  1 number after which items are wanted   2 bytes of items about
-- Returns {the number of the list's first item, elements...}; {} where there is no list.

local function numberAt(index)
  return tonumber(string.match(redis.call('LINDEX', KEYS[1], 2 * index), '^%d+'))
end
local length = redis.call('LLEN', KEYS[1]) / 2
if length == 0 then
  return {}
end
local after = tonumber(ARGV[1])
local low, high = 0, length
while low < high do
  local middle = math.floor((low + high) / 2)
  if numberAt(middle) > after then
    high = middle
  else
    low = middle + 1
  end
end
local reply = { string.format('%.0f', numberAt(0)) }
local bytes = 0
while low < length and bytes < tonumber(ARGV[2]) do
  for _, element in ipairs(redis.call('LRANGE', KEYS[1], 2 * low, 2 * low + 63)) do
    reply[#reply + 1] = element
    bytes = bytes + #element
  end
  low = low + 32
end
return reply
