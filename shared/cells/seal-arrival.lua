#!lua flags=allow-oom
-- Ends an attempt to copy a slot to this cell: nothing more is restored. Leases get their full time, by the clock of this cell.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt   3 version of the map in which the slot is closed   4 lease ms
--       5 leases of the slot (sorted set: lease → Unix ms of its end)
-- Returns 1, or 0 where the slot is not open for this attempt, or another server has taken over since: copies may be lost.

local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local arrival = redis.call('HMGET', KEYS[1], 'state', 'server')
if arrival[1] ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' or arrival[2] ~= server then
  return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[1] .. ' ' .. ARGV[2] .. ' sealed', 'version', ARGV[3])
local time = redis.call('TIME')
local endsAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4]))
for _, lease in ipairs(redis.call('ZRANGE', ARGV[5], 0, -1)) do
  redis.call('ZADD', ARGV[5], endsAt, lease)
end
return 1
