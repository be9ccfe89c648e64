#!lua flags=allow-oom
-- Ends a move that is aborted: nothing more of it is restored.
-- KEYS  1 how the slot arrived (hash: state, 'move attempt state'; server)   2 a name in its slot that no key has
-- ARGV  1 move
-- Returns 1.

local last = redis.call('HGET', KEYS[1], 'state')
if last and tonumber(string.match(last, '^%d+')) <= tonumber(ARGV[1]) then
  redis.call('UNLINK', KEYS[1])
end
return 1
