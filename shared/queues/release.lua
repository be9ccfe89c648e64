#!lua flags=allow-oom
-- Makes a queue ready that is parked, or waits for its next attempt.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 prefix of the slot's keys   2 queue (service:tenant:key)
-- Returns 1, or 0 where it is neither.
-- include ready.part.lua

local prefix, queue = ARGV[1], ARGV[2]
local head = redis.call('LINDEX', prefix .. 'q:' .. queue, 0)
if not head then
  return 0
end
local class = string.match(head, '^%d+ (%S+)')
local member = class .. ' ' .. queue
if redis.call('SREM', prefix .. 'parked', member) + redis.call('ZREM', prefix .. 'delays', member) == 0 then
  return 0
end
local previous = redis.call('HGET', prefix .. 'k:' .. queue, 'previous') or '0'
redis.call('DEL', prefix .. 'k:' .. queue)
local service, tenant = string.match(queue, '^([^:]*):([^:]*):')
makeReady(prefix, laneOf(class, service, 'f', tenant), '0 ' .. previous .. ' ' .. queue, false)
pushReady(prefix)
tellReady()
return 1
