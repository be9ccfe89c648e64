#!lua flags=allow-oom
-- Notes attempts at deliveries, and since when their endpoints have failed.
-- KEYS  1 attempts   2 health of the first endpoint; in a cluster all are in one hash slot
-- ARGV  1 attempts kept   2 and 3 seconds from the last one on, of attempts and of health, then for each attempt: attempts (stream),
--       health (hash: since, last), attempt (JSON text), Unix ms, status and message of a failure or ''
-- Returns for each {failing since or nil, last error: Unix ms, status and message or nil}.

local replies = {}
for at = 4, #ARGV, 5 do
  local attempts, health, time, failure = ARGV[at], ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  redis.call('XADD', attempts, 'MAXLEN', ARGV[1], '*', 'a', ARGV[at + 2])
  -- A delivery that is under way while its endpoint is deleted leaves this behind.
  redis.call('EXPIRE', attempts, ARGV[2])
  if failure ~= '' then
    redis.call('HSETNX', health, 'since', time)
    redis.call('HSET', health, 'last', time .. ' ' .. failure)
  end
  if redis.call('EXPIRE', health, ARGV[3]) == 0 then
    -- It has never failed.
    replies[#replies + 1] = { false, false }
  else
    if failure == '' then
      redis.call('HDEL', health, 'since')
    end
    replies[#replies + 1] = redis.call('HMGET', health, 'since', 'last')
  end
end
return replies
