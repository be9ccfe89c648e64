#!lua flags=allow-oom
-- Revokes what a user could resume with: everything, one session, or the grants for a channel.
-- KEYS  1 revocations of the user (hash: name → Unix ms)
-- ARGV  1 name: 'user', 'session …' or 'grant …'   2 broader name, used when there are too many   3 most names   4 ms to remember
-- Returns the date of the revocation in Unix ms.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name = ARGV[1]
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], name) == 0 then
  name = ARGV[2]
end
-- Later than every earlier revocation: a check that passed those must not pass this one.
local at = now
for _, last in ipairs(redis.call('HVALS', KEYS[1])) do
  at = math.max(at, last + 1)
end
local atText = string.format('%.0f', at)
redis.call('HSET', KEYS[1], name, atText)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return atText
