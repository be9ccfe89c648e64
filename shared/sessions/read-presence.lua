#!lua flags=no-writes
-- Who is in a channel, or, of a large one, how many users.
-- KEYS  1 sessions in the channel (hash: session → 'claim holder tellUpTo member')   2 users in the channel (hash: identity key → sessions)
-- ARGV  1 list up to so many sessions
-- Returns {users, entry, entry, …}; no entries where there are more.

local reply = { redis.call('HLEN', KEYS[2]) }
if redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[1]) then
  for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
    reply[#reply + 1] = entry
  end
end
return reply
