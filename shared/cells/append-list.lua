#!lua
-- Continues the copy of a list: see read-list.lua.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt   3 list   4 number of its first item: earlier ones have left it   then the elements to append
-- Returns 1, or 0 where the slot is not open for this attempt; nothing was changed then.

if redis.call('HGET', KEYS[1], 'state') ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
  return 0
end
local first = tonumber(ARGV[4])
while true do
  local elements = redis.call('LRANGE', ARGV[3], 0, 99)
  local gone = 0
  for element = 1, #elements, 2 do
    if tonumber(string.match(elements[element], '^%d+')) >= first then
      break
    end
    gone = gone + 2
  end
  if gone > 0 then
    redis.call('LTRIM', ARGV[3], gone, -1)
  end
  if gone < 100 then
    break
  end
end
for at = 5, #ARGV do
  redis.call('RPUSH', ARGV[3], ARGV[at])
end
return 1
