#!lua
-- Sends an item to followers without storing it, unless its id was seen before.
-- KEYS  1 idempotency key
-- ARGV  1 topic   2 event   3 data (JSON text)   4 idempotency seconds
-- Returns 1, or 0 where the id was seen before.

if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[4]) then
  return 0
end
redis.call('SPUBLISH', ARGV[1], 'e ' .. ARGV[2] .. '\n' .. ARGV[3])
return 1
