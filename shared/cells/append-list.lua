#!lua
-- Continues the copy of a list whose items begin with growing numbers.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   2 attempt   3 slot   4 list   5 number of its first item: earlier ones have left it   then the items to append
-- Returns 1, or 0 where the slot is not open for this attempt; nothing was changed then.

if redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
  return 0
end
local first = tonumber(ARGV[5])
while true do
  local items = redis.call('LRANGE', ARGV[4], 0, 99)
  local gone = 0
  for _, item in ipairs(items) do
    if tonumber(string.match(item, '^%d+')) >= first then
      break
    end
    gone = gone + 1
  end
  if gone > 0 then
    redis.call('LTRIM', ARGV[4], gone, -1)
  end
  if gone < 100 then
    break
  end
end
for at = 6, #ARGV do
  redis.call('RPUSH', ARGV[4], ARGV[at])
end
return 1
