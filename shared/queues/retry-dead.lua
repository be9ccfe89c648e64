#!lua
-- Puts a dead letter back to the tail of its queue, as a new item.
-- KEYS  1 a name in the slot
-- ARGV  1 prefix of the slot's keys   2 sequence of the dead letter
-- Returns 1, or 0 where there is none.
-- include numbers.part.lua
-- include ready.part.lua

local prefix = ARGV[1]
local letter = redis.call('HGET', prefix .. 'dead', ARGV[2])
if not letter then
  return 0
end
local queue, class, rest = string.match(letter, '^%d+ ([^\n]*)\n[^\n]*\n%d+ (%S+)(\n.*)$')
redis.call('HDEL', prefix .. 'dead', ARGV[2])
redis.call('ZREM', prefix .. 'deadAt', ARGV[2])
local sequence = string.format('%.0f', takeNumbers(prefix, 1) + 1)
if redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. ' ' .. class .. rest) == 1 then
  makeReady(prefix, class, 'f', queue, false)
end
redis.call('HINCRBY', prefix .. 'depths', class .. ':' .. string.match(queue, '^[^:]*:([^:]*):'), 1)
return 1
