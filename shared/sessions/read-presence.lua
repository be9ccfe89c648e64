#!lua flags=no-writes
-- Lists the sessions in a channel; of a large channel it counts the users only.
-- KEYS  1 sessions in the channel (hash: session → 'claim holder announceUpTo member')   2 users in the channel (hash: identity key → sessions)
-- ARGV  1 most sessions to list
-- Returns {users, entry, entry, …}; without entries where the channel has more sessions.

local reply = { redis.call('HLEN', KEYS[2]) }
if redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[1]) then
  for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
    reply[#reply + 1] = entry
  end
end
return reply
