-- The version of the next change of an endpoint: past every version before, also those that a Redis gave which this one replaces
-- without its latest writes. `changed` keeps the version of the last change of each, removed ones included; of very many the oldest
-- removed ones are dropped. `floor`: up to which version that happened, or which was the first of this Redis. Readers of versions
-- before it read everything: what they know may be lost.
local maxChanged = 40000
local function nextVersion(documents, versions, changed, id)
  local time = redis.call('TIME')
  local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  local known = redis.call('HMGET', versions, 'last', 'replid')
  local version = string.format('%.0f', math.max(tonumber(known[1] or '0') + 1, time[1] * 1000 + math.floor(time[2] / 1000)))
  redis.call('HSET', versions, 'last', version)
  if known[2] ~= replid then
    redis.call('HSET', versions, 'replid', replid, 'floor', version)
  end
  redis.call('ZADD', changed, version, id)
  if redis.call('ZCARD', changed) > maxChanged then
    for _, oldest in ipairs(redis.call('ZRANGE', changed, 0, 99)) do
      if redis.call('HEXISTS', documents, oldest) == 0 then
        local floor = math.max(tonumber(redis.call('HGET', versions, 'floor') or '0'), tonumber(redis.call('ZSCORE', changed, oldest)))
        redis.call('HSET', versions, 'floor', string.format('%.0f', floor))
        redis.call('ZREM', changed, oldest)
      end
    end
  end
  return version
end
