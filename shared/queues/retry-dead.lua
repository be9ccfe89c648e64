#!lua
-- Puts a dead letter back to the tail of its queue, as a new item.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 prefix of the slot's keys   2 sequence of the dead letter
-- Returns 1, 0 where there is none, or 'left' where new items of its tenant may belong in another slot.
-- include numbers.part.lua
-- include ready.part.lua

local prefix = ARGV[1]
local letter = redis.call('HGET', prefix .. 'dead', ARGV[2])
if not letter then
  return 0
end
local queue, origin, rest = string.match(letter, '^%d+ ([^\n]*)\n[^\n]*\n%d+ ([^\n]*)(\n.*)$')
if redis.call('HEXISTS', prefix .. 'left', string.match(queue, '^[^:]*:([^:]*):')) == 1 then
  return 'left'
end
local class, source = string.match(origin, '^(%S+) ?(%S*)')
redis.call('HDEL', prefix .. 'dead', ARGV[2])
redis.call('ZREM', prefix .. 'deadAt', ARGV[2])
local sequence = string.format('%.0f', takeNumbers(1) + 1)
if redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. ' ' .. origin .. rest) == 1 then
  makeReady(prefix, class, 'f', '0 0 ' .. queue, false)
  pushReady(prefix)
  tellReady()
end
redis.call('HINCRBY', prefix .. 'depths', class .. ':' .. string.match(queue, '^[^:]*:([^:]*):'), 1)
if source ~= '' then
  redis.call('HINCRBY', prefix .. 'sources', source, 1)
end
return 1
