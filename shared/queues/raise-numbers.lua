#!lua flags=allow-oom
-- Lets sequences and fencing tokens continue past a number.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 the number; 0 changes nothing
-- Returns the last number that was given, as text.
-- include numbers.part.lua

local last, key = takeNumbers('0')
if last < tonumber(ARGV[1]) then
  redis.call('SET', key, ARGV[1])
  return ARGV[1]
end
return string.format('%d', last)
