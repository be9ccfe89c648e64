#!lua flags=allow-oom
-- Revokes what a user could resume with: everything, one session, or the grants for a channel.
-- KEYS  1 revocations of the user (hash: name → Unix ms)
-- ARGV  1 name: 'user', 'session …' or 'grant …'   2 broader name, used when there are too many   3 most names   4 ms to remember
-- Returns the date of the revocation in Unix ms.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Later than every earlier revocation: a check that passed those must not pass this one.
local at = now
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  at = math.max(at, known[i + 1] + 1)
  if tonumber(known[i + 1]) < now - ARGV[4] then
    redis.call('HDEL', KEYS[1], known[i])
  end
end
local name = ARGV[1]
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], name) == 0 then
  name = ARGV[2]
end
local atText = string.format('%.0f', at)
redis.call('HSET', KEYS[1], name, atText)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return atText
