-- Gives the version of the next change of an endpoint. It is greater than every version before, even if this Redis was restarted, or
-- replaced another one, without the latest writes. `changed` keeps the version of the last change of each endpoint, removed ones
-- included; if it grows too large, the oldest removed ones are dropped. `floor` is the greatest version that was dropped, or the first one
-- of this Redis. A reader with an earlier version has to read everything.
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
