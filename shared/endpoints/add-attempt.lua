#!lua flags=allow-oom
-- Notes an attempt at a delivery, and since when its endpoint has failed.
-- KEYS  1 attempts (stream)   2 health (hash: since, last)
-- ARGV  1 attempts kept   2 and 3 seconds from the last one on, of attempts and of health   4 attempt (JSON text)   5 Unix ms
--       6 status and message of a failure or ''
-- Returns {failing since or nil, last error: Unix ms, status and message or nil}.

redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'a', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[2])
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[2], 'since')
else
  if redis.call('HEXISTS', KEYS[2], 'since') == 0 then
    redis.call('HSET', KEYS[2], 'since', ARGV[5])
  end
  redis.call('HSET', KEYS[2], 'last', ARGV[5] .. ' ' .. ARGV[6])
end
-- A delivery that is under way while its endpoint is deleted leaves this behind.
redis.call('EXPIRE', KEYS[2], ARGV[3])
return redis.call('HMGET', KEYS[2], 'since', 'last')
