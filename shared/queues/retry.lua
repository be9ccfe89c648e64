#!lua flags=allow-oom
-- Ends a lease of which the first item, or the one after those that were done, failed. The item stays at the head of its queue for a
-- later attempt, leaves the queue as a dead letter, or parks the queue until it is released.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 prefix of the slot's keys   2 lease (see claim.lua)   3 number of items done   4 'delay', 'dead' or 'park'
--       5 attempts that failed   6 delay ms   7 failure (JSON text of one line)
-- Returns 1, or 0 where the lease had ended before.
-- include ready.part.lua
-- include leave.part.lua

local prefix, lease, done = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('ZREM', prefix .. 'leases', lease) == 0 then
  return 0
end
local class, previous, queue, service, tenant = string.match(lease, '^%d+ (%S+) %d+ %d+ %S* %S* %d+ (%d+) (([^:]*):([^:]*):.*)$')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[4] == 'dead' then
  local nextClass, sequence, label, content = leave(prefix, queue, tenant, done + 1)
  local failedAt = string.format('%.0f', now)
  redis.call('HSET', prefix .. 'dead', sequence, failedAt .. ' ' .. queue .. '\n' .. ARGV[7] .. '\n' .. label .. '\n' .. content)
  redis.call('ZADD', prefix .. 'deadAt', failedAt, sequence)
  if nextClass then
    makeReady(prefix, laneOf(nextClass, service, 'f', tenant), '0 ' .. sequence .. ' ' .. queue, false)
  end
  uncount(prefix)
  pushReady(prefix)
  tellReady()
  return 1
end
if done > 0 then
  local nextClass, sequence = leave(prefix, queue, tenant, done)
  uncount(prefix)
  class, previous = nextClass or class, sequence
end
redis.call('HSET', prefix .. 'k:' .. queue, 'attempts', ARGV[5], 'previous', previous)
if ARGV[4] == 'park' then
  redis.call('SADD', prefix .. 'parked', class .. ' ' .. queue)
else
  redis.call('ZADD', prefix .. 'delays', string.format('%.0f', now + tonumber(ARGV[6])), class .. ' ' .. queue)
end
return 1
