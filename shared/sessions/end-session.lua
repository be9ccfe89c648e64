#!lua flags=allow-oom
-- Ends a session if the claim is in force, and starts its grace time. Where it has a profile, its disconnected becomes due.
-- KEYS  1 sessions of the user (hash)   2 the session, ended   3 holdings of the holder in this slot (set)
--       4 profiles (hash: 'session user' → 'began ended reason' and, in the next line, the profile)
--       5 session events (sorted set: 'c' or 'd', session and user → Unix ms at which it is due)
-- ARGV  1 session   2 claim, or '' for any claim of the holder   3 holder   4 grace in ms   5 member of KEYS[3]   6 field of KEYS[4]
--       7 1: disconnected is due after the grace time, 0: at once   8 reason or '-'   9 Unix ms since which its node is gone, or '': now
-- Returns 1, or 0 where another claim is in force.

local record = redis.call('HGET', KEYS[1], ARGV[1])
local claim, holder, connectedAt
if record then
  claim, holder, connectedAt = string.match(record, '^(%d+) (%S+) (%d+)')
end
if holder ~= ARGV[3] then
  redis.call('SREM', KEYS[3], ARGV[5])
end
-- A claim is of one node, which may have stored it under another of its names.
if claim ~= ARGV[2] and (ARGV[2] ~= '' or holder ~= ARGV[3]) then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[5])
local graceMs = tonumber(ARGV[4])
local profile = redis.call('HGET', KEYS[4], ARGV[6])
if profile then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local since = tonumber(ARGV[9]) or now
  local sinceText = string.format('%.0f', since)
  local began, text = string.match(profile, '^(%d+) [^\n]*(\n.*)$')
  redis.call('HSET', KEYS[4], ARGV[6], began .. ' ' .. sinceText .. ' ' .. ARGV[8] .. text)
  local dueAt = ARGV[7] == '1' and string.format('%.0f', since + graceMs) or sinceText
  redis.call('ZADD', KEYS[5], dueAt, 'd ' .. ARGV[6])
  graceMs = since + graceMs - now
end
if graceMs > 0 then
  redis.call('SET', KEYS[2], claim .. ' ' .. connectedAt, 'PX', string.format('%.0f', graceMs))
end
return 1
