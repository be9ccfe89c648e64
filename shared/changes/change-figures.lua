#!lua flags=no-writes
-- Reads how much the change logs of slots keep.
-- KEYS  1 and 2 see scriptKeys
-- ARGV  for each slot: its log
-- Returns for each slot {changes, bytes, time of the oldest in ms, newest place, bytes of noted rows}, or {} where it never had a log.

local replies = {}
for index, log in ipairs(ARGV) do
  local state = redis.call('HMGET', log .. ':state', 'newest', 'bytes', 'oldest', 'rowBytes')
  replies[index] = state[1] and { redis.call('XLEN', log), state[2], state[3], state[1], state[4] or '0' } or {}
end
return replies
