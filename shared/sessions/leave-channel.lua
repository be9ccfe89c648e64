#!lua flags=allow-oom
-- A session leaves a channel, if it entered with the same claim.
-- KEYS  1 sessions in the channel (hash: session → 'claim holder announceUpTo member')   2 users in the channel (hash: identity key → sessions)
--       3 holdings of the holder in this slot (set)
-- ARGV  1 session   2 claim, or '' for any claim of the holder   3 holder   4 identity key   5 topic of the channel   6 member of KEYS[3]
-- Returns 1, or 0 where the channel has no entry of that session, or one of another claim.

local entry = redis.call('HGET', KEYS[1], ARGV[1])
local claim, holder, announceUpTo, member
if entry then
  claim, holder, announceUpTo, member = string.match(entry, '^(%d+) (%S+) (%d+) (.+)$')
end
if holder ~= ARGV[3] then
  redis.call('SREM', KEYS[3], ARGV[6])
end
-- A claim is of one node, which may have stored it under another of its names.
if claim ~= ARGV[2] and (ARGV[2] ~= '' or holder ~= ARGV[3]) then
  return 0
end
local announced = redis.call('HLEN', KEYS[1]) <= tonumber(announceUpTo)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[6])
if redis.call('HINCRBY', KEYS[2], ARGV[4], -1) <= 0 then
  redis.call('HDEL', KEYS[2], ARGV[4])
  if announced then
    redis.call('SPUBLISH', ARGV[5], 'e sync:leave\n' .. member)
  end
end
return 1
