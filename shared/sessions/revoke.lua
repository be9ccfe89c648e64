-- Takes away what a user could come back with: everything, one session, or the grants for a channel.
-- KEYS  1 revocations of the user (hash: name → Unix ms)
-- ARGV  1 name: 'user', 'session …' or 'grant …'   2 ms by which claims may be ahead of the clock   3 name when there are too many
--       4 so many   5 remembered for so many ms

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name = ARGV[1]
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], name) == 0 then
  name = ARGV[3]
end
-- Later than whatever began after the last revocation.
local last = tonumber(redis.call('HGET', KEYS[1], name) or '0')
local at = math.max(now, last + 1) + ARGV[2]
redis.call('HSET', KEYS[1], name, string.format('%.0f', at))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
