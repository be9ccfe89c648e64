#!lua
-- Sends an item to followers without storing it, unless its id was seen before, or its mark is not above the stored one.
-- KEYS  1 idempotency key, or with a mark the marks of the slot (hash: name, mark)
-- ARGV  1 topic   2 event   3 data (JSON text)   4 idempotency seconds, or with a mark 'name mark'
-- Returns 1, or 0 where it is a repeat.

local markName, mark = string.match(ARGV[4], '^(%S+) (%d+)$')
if mark then
  -- Digits of one length: their order as text is that of the numbers.
  if (redis.call('HGET', KEYS[1], markName) or '') >= mark then
    return 0
  end
  redis.call('HSET', KEYS[1], markName, mark)
elseif not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[4]) then
  return 0
end
redis.call('SPUBLISH', ARGV[1], 'e ' .. ARGV[2] .. '\n' .. ARGV[3])
return 1
