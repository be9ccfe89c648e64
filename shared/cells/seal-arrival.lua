#!lua flags=allow-oom
-- Ends an attempt to copy slots to this cell: nothing more is restored. Leases get their full time, by the clock of this cell.
-- KEYS  1 arrivals (hash: slot → 'move attempt state')
-- ARGV  1 move   2 attempt   3 lease ms   4 replication id of this cell when the attempt began: another one means that a restart or a
--       failover may have lost copies   then for each slot: slot, its leases (sorted set: lease → Unix ms of its end)
-- Returns 1, or 0 where the slots are not open for this attempt, or copies may be lost.

if string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') ~= ARGV[4] then
  return 0
end
local time = redis.call('TIME')
local endsAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3]))
for at = 5, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[at]) ~= ARGV[1] .. ' ' .. ARGV[2] .. ' open' then
    return 0
  end
end
for at = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[1] .. ' ' .. ARGV[2] .. ' sealed')
  for _, lease in ipairs(redis.call('ZRANGE', ARGV[at + 1], 0, -1)) do
    redis.call('ZADD', ARGV[at + 1], endsAt, lease)
  end
end
return 1
