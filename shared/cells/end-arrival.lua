#!lua flags=allow-oom
-- Ends a move that is aborted: nothing more of it is restored, and no attempt begins that goes by an older map.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; version of the map; server)   2 a name in its slot that no key has
-- ARGV  1 move   2 version of the map in which it is aborted
-- Returns 1.

local last = redis.call('HGET', KEYS[1], 'state')
if not last or tonumber(string.match(last, '^%d+')) <= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'state', ARGV[1] .. ' none ended', 'version', ARGV[2])
end
return 1
