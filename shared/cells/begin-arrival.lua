#!lua flags=allow-oom
-- Opens a slot for an attempt to copy it to this cell. What earlier attempts still send is refused from now on.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 attempt
-- Returns 1, or 0 where a later move has brought the slot here.

local last = redis.call('HGET', KEYS[1], 'state')
if last and tonumber(string.match(last, '^%d+')) > tonumber(ARGV[1]) then
  return 0
end
local server = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
redis.call('HSET', KEYS[1], 'state', ARGV[1] .. ' ' .. ARGV[2] .. ' open', 'server', server)
return 1
