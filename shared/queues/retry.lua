#!lua flags=allow-oom
-- Ends a lease whose first item, or the one after those that were done, failed. That item stays at the head of its queue, leaves it
-- as a dead letter, or holds the queue until it is released.
-- KEYS  1 a name in the slot
-- ARGV  1 prefix of the slot's keys   2 lease (fence class items queue)   3 number of items done   4 sequence of the last item that leaves, or ''
--       5 'delay', 'dead' or 'park'   6 attempts that failed   7 delay ms   8 failure (JSON text of one line)
-- Returns 1, or 0 where the lease had ended before.
-- include ready.part.lua
-- include leave.part.lua

local prefix, lease = ARGV[1], ARGV[2]
if redis.call('ZREM', prefix .. 'leases', lease) == 0 then
  return 0
end
local class, queue = string.match(lease, '^%d+ (%S+) %d+ (.*)$')
local state = prefix .. 'k:' .. queue
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if tonumber(ARGV[3]) > 0 then
  leave(prefix, queue, ARGV[3])
end
if ARGV[5] == 'dead' then
  local item = leave(prefix, queue, 1)[1]
  local sequence = string.match(item, '^%d+')
  local failedAt = string.format('%.0f', now)
  redis.call('HSET', prefix .. 'dead', sequence, failedAt .. ' ' .. queue .. '\n' .. ARGV[8] .. '\n' .. item)
  redis.call('ZADD', prefix .. 'deadAt', failedAt, sequence)
  advance(prefix, queue, ARGV[4])
  return 1
end
if ARGV[4] ~= '' then
  redis.call('HSET', state, 'previous', ARGV[4])
end
redis.call('HSET', state, 'attempts', ARGV[6])
if ARGV[5] == 'park' then
  redis.call('SADD', prefix .. 'parked', class .. ' ' .. queue)
else
  redis.call('ZADD', prefix .. 'delays', string.format('%.0f', now + tonumber(ARGV[7])), class .. ' ' .. queue)
end
return 1
