#!lua flags=allow-oom
-- Notes an attempt at a delivery, and since when its endpoint has failed.
-- KEYS  1 attempts (stream)   2 health (hash: since, last)
-- ARGV  1 attempts kept   2 seconds from the last one on   3 attempt (JSON text)   4 Unix ms   5 status and message of a failure or ''
-- Returns {failing since or nil, last error: Unix ms, status and message or nil}.

redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'a', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[2], 'since')
else
  if redis.call('HEXISTS', KEYS[2], 'since') == 0 then
    redis.call('HSET', KEYS[2], 'since', ARGV[4])
  end
  redis.call('HSET', KEYS[2], 'last', ARGV[4] .. ' ' .. ARGV[5])
end
return redis.call('HMGET', KEYS[2], 'since', 'last')
