#!lua flags=allow-oom
-- Opens a slot for an attempt to copy it to this cell. What earlier attempts still send is refused from now on.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt   3 version of the map that the attempt goes by
-- Returns 1, or 0 where an attempt goes, or the slot has arrived, by a newer map; nothing was changed then.

local known = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if known > tonumber(ARGV[3]) then
  return 0
end
local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
redis.call('HSET', KEYS[1], 'state', ARGV[1] .. ' ' .. ARGV[2] .. ' open', 'version', ARGV[3], 'server', server)
return 1
