-- The version of the next change of an endpoint. `changed` keeps the version of the last change of each, removed ones included; of
-- very many the oldest removed ones are dropped, and `floor` says up to which version that happened.
local maxChanged = 40000
local function nextVersion(documents, versions, changed, id)
  local version = redis.call('HINCRBY', versions, 'last', 1)
  redis.call('ZADD', changed, version, id)
  if redis.call('ZCARD', changed) > maxChanged then
    for _, oldest in ipairs(redis.call('ZRANGE', changed, 0, 99)) do
      if redis.call('HEXISTS', documents, oldest) == 0 then
        redis.call('HSET', versions, 'floor', redis.call('ZSCORE', changed, oldest))
        redis.call('ZREM', changed, oldest)
      end
    end
  end
  return string.format('%.0f', version)
end
