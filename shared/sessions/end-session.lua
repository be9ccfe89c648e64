#!lua flags=allow-oom
-- Ends a session if the claim is in force, and starts its grace time.
-- KEYS  1 sessions of the user (hash)   2 the session, ended   3 holdings of the holder in this slot (set)
-- ARGV  1 session   2 claim, or '' for any claim of the holder   3 holder   4 grace in ms   5 member of KEYS[3]
-- Returns 1, or 0 where another claim is in force.

local record = redis.call('HGET', KEYS[1], ARGV[1])
local claim, holder, connectedAt
if record then
  claim, holder, connectedAt = string.match(record, '^(%d+) (%S+) (%d+)')
end
if holder ~= ARGV[3] then
  redis.call('SREM', KEYS[3], ARGV[5])
  return 0
end
if ARGV[2] ~= '' and ARGV[2] ~= claim then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], claim .. ' ' .. connectedAt, 'PX', ARGV[4])
redis.call('SREM', KEYS[3], ARGV[5])
return 1
