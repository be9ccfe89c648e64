#!lua flags=allow-oom
-- Notes attempts at deliveries, and since when their endpoints have failed.
-- KEYS  1 attempts   2 health of the first endpoint; in a cluster all are in one hash slot
-- ARGV  1 attempts kept   2 and 3 seconds from the last one on, of attempts and of health, then the attempts, each of three lines: slot and id of its
--       endpoint; the attempt (JSON text); and '' or, of a failure, Unix ms, status and message, which may have line breaks
-- Keys of an endpoint: attempts (stream), health (hash: since, last)
-- Returns for each failure since when its endpoint has failed: Unix ms.

local beforeSlot = string.match(KEYS[1], '^(.*{)%d+}:attempts:')
local replies = {}
for at = 4, #ARGV do
  local slot, id, attempt, failure = string.match(ARGV[at], '^(%d+) ([^\n]*)\n([^\n]*)\n(.*)$')
  local attempts, health = beforeSlot .. slot .. '}:attempts:' .. id, beforeSlot .. slot .. '}:health:' .. id
  redis.call('XADD', attempts, 'MAXLEN', ARGV[1], '*', 'a', attempt)
  -- Needed because a delivery that is under way while its endpoint is deleted leaves this key behind.
  redis.call('EXPIRE', attempts, ARGV[2])
  if failure ~= '' then
    redis.call('HSETNX', health, 'since', string.match(failure, '^%d+'))
    redis.call('HSET', health, 'last', failure)
    redis.call('EXPIRE', health, ARGV[3])
    replies[#replies + 1] = redis.call('HGET', health, 'since')
  elseif redis.call('EXPIRE', health, ARGV[3]) == 1 then
    -- It has failed before.
    redis.call('HDEL', health, 'since')
  end
end
return replies
