#!lua flags=allow-oom
-- Prolongs leases that have not ended.
-- KEYS  1 the counter of sequences and fencing tokens   2 a name in its slot that no key has
-- ARGV  1 lease ms, then for each lease: prefix of the slot's keys, lease (see claim.lua)
-- Returns for each lease 1, or 0 where it has ended.

local time = redis.call('TIME')
local expiresAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]))
local replies = {}
for at = 2, #ARGV, 2 do
  local leases, lease = ARGV[at] .. 'leases', ARGV[at + 1]
  local held = redis.call('ZSCORE', leases, lease) and 1 or 0
  if held == 1 then
    redis.call('ZADD', leases, expiresAt, lease)
  end
  replies[#replies + 1] = held
end
return replies
