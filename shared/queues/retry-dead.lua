#!lua
-- Puts a dead letter back to the tail of its queue, as a new item.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 prefix of the slot's keys   2 sequence of the dead letter   3 the key that says that the new item was stored: a process that knows of
--       a pin stores it, and then removes the letter   4 deduplication ms
-- Returns 1, 0 where there is none, or 'left' where new items of its tenant may belong in another slot.
-- include numbers.part.lua
-- include ready.part.lua

local prefix = ARGV[1]
local letter = redis.call('HGET', prefix .. 'dead', ARGV[2])
if not letter then
  return 0
end
local queue, origin, content = string.match(letter, '^%d+ ([^\n]*)\n[^\n]*\n%d+ ([^\n]*)\n(.*)$')
local service, tenant = string.match(queue, '^([^:]*):([^:]*):')
if redis.call('HEXISTS', prefix .. 'left', tenant) == 1 then
  return 'left'
end
local class, source = string.match(origin, '^(%S+) ?(%S*)')
redis.call('HDEL', prefix .. 'dead', ARGV[2])
redis.call('ZREM', prefix .. 'deadAt', ARGV[2])
if not redis.call('SET', ARGV[3], '1', 'PX', ARGV[4], 'NX') then
  return 1
end
local sequence = string.format('%d', takeNumbers(1) + 1)
if redis.call('RPUSH', prefix .. 'q:' .. queue, sequence .. ' ' .. origin, content) == 2 then
  makeReady(prefix, laneOf(class, service, 'f', tenant), '0 0 ' .. queue, false)
  pushReady(prefix)
  tellReady()
end
redis.call('HINCRBY', prefix .. 'depths', class .. ':' .. tenant, 1)
if source ~= '' then
  redis.call('HINCRBY', prefix .. 'sources', source, 1)
end
return 1
