#!lua
-- Begins a channel at offset 0, unless it has a state.
-- KEYS  1 state (hash: epoch, offset, replid)   2 history (stream, entry id = offset)
-- ARGV  1 epoch   2 seconds to keep the state
-- Returns 1, or 0 where the channel has a state.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
-- A history whose state expired belongs to no epoch.
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'offset', '0', 'replid', replid)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
