#!lua flags=no-writes
-- Lists the nodes, including those that are gone and not yet removed.
-- KEYS  1 reports (hash: instance → report)   2 shares (hash: instance → 'inForce share weight heard state')
-- Returns {now in Unix ms, reports, shares}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return { string.format('%.0f', now), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
