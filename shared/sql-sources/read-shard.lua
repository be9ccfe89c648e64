#!lua flags=no-writes
-- Reads what is stored of a shard.
-- KEYS  1 shard (hash: progress, status)   2 see shardKeys
-- Returns {progress or '', status or '', 1 while a lease is held, else 0}.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local stored = redis.call('HMGET', KEYS[1], 'progress', 'status')
local leasedUntil = tonumber(redis.call('HGET', KEYS[1] .. ':reader', 'until') or '0')
return { stored[1] or '', stored[2] or '', leasedUntil > now and 1 or 0 }
