#!lua
-- A session enters a channel, or repeats that it is there.
-- KEYS  1 sessions in the channel (hash: session → 'claim holder announceUpTo member')   2 users in the channel (hash: identity key → sessions)
--       3 holdings of the holder in this slot (set)
-- ARGV  1 session   2 claim   3 holder   4 identity key   5 member (JSON: channel, user, tenant, info)   6 announce joins in channels of up to this many sessions
--       7 topic of the channel   8 member of KEYS[3]
-- Returns 1, or 0 where the channel has a newer claim of the session.

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry and tonumber(string.match(entry, '^%d+')) > tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[6] .. ' ' .. ARGV[5])
redis.call('SADD', KEYS[3], ARGV[8])
if not entry and redis.call('HINCRBY', KEYS[2], ARGV[4], 1) == 1 and redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[6]) then
  redis.call('SPUBLISH', ARGV[7], 'e sync:join\n' .. ARGV[5])
end
return 1
